# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The JSON of bench/run, which reads this.

json_string() {
	local text=${1//[$'\001'-$'\037']/ }

	text=${text//\\/\\\\}
	printf '"%s"' "${text//\"/\\\"}"
}

# json_value TEXT: a number if it looks like one.
json_value() {
	if [[ $1 =~ ^-?(0|[1-9][0-9]*)(\.[0-9]+)?$ ]]; then
		printf %s "$1"
	else
		json_string "$1"
	fi
}

# join ITEM...: with commas.
join() {
	local IFS=,

	echo "$*"
}

# fields NAME VALUE...: the inside of an object.
fields() {
	local items=()

	for (( ; $#; )); do
		items+=("$(json_string "$1"): $(json_value "$2")")
		shift 2
	done
	join "${items[@]}"
}

kernel_fields() {
	fields release "$(uname -r)" version "$(uname -v)" label "${KERNEL_LABEL:-$(uname -r)}" \
		config_sha256 "$(config | sha256sum | cut -d' ' -f1)"
}

# config: of this kernel, from where it is.
config() { zcat /proc/config.gz 2>/dev/null || cat "/boot/config-$(uname -r)" 2>/dev/null || :; }

# first FILE: its first line, or nothing.
first() { head -n 1 "$1" 2>/dev/null || :; }

# topology: "2 packages, 16 cores, 32 CPUs, 2 nodes"
topology() {
	local cpus=/sys/devices/system/cpu nodes=(/sys/devices/system/node/node[0-9]*)

	echo "$(distinct $cpus/cpu[0-9]*/topology/physical_package_id) packages," \
		"$(distinct $cpus/cpu[0-9]*/topology/core_cpus_list) cores," \
		"$(nproc) CPUs, ${#nodes[@]} nodes"
}

# distinct FILE...: how many different lines.
distinct() { { cat "$@" 2>/dev/null || :; } | sort -u | wc -l; }

# mitigations: of all vulnerabilities, "name: state; ..."
mitigations() {
	(cd /sys/devices/system/cpu/vulnerabilities 2>/dev/null && grep . -- *) |
		sed 's/:/: /' | paste -sd';' | sed 's/;/; /g' || :
}

env_fields() {
	fields date "$(date -u +%Y-%m-%dT%H:%M:%SZ)" state "${STATE:-$(state 2>/dev/null)}" \
		cpus "$(nproc)" host_cpus "${VM_HOST_CPUS:-$(nproc)}" \
		mem_mib "${VM_MIB:-$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)}" \
		accel "${VM_ACCEL:-none}" \
		swap "${VM_SWAP:-$(awk 'NR == 2 { print $1 }' /proc/swaps)}" \
		cpu_model "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)" \
		topology "$(topology)" \
		governor "$(first /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor)" \
		mitigations "$(mitigations)" \
		thp "$(bracketed /sys/kernel/mm/transparent_hugepage/enabled)" \
		thp_defrag "$(bracketed /sys/kernel/mm/transparent_hugepage/defrag)" \
		lru_gen "$(first "$LRU_GEN")" \
		zswap "$(first /sys/module/zswap/parameters/enabled)" \
		swappiness "$(first /proc/sys/vm/swappiness)" \
		stress_ng "$(stress-ng --version 2>/dev/null | awk '{ sub(/,/, "", $3); print $3 }')"
}

print_json() {
	local valid=true

	[[ -z $INVALID ]] || valid=false
	cat <<-END
	{
	 "schema": 1,
	 "scenario": $(json_string "$NAME"),
	 "question": $(json_string "$QUESTION"),
	 "valid": $valid,
	 "invalid_reason": $(json_string "$INVALID"),
	 "kernel": {$(kernel_fields)},
	 "env": {$ENV},
	 "settings": {$(join "${SETTINGS[@]}")},
	 "metrics": {$(join "${METRICS[@]}")},
	 "samples": {$(join "${SAMPLES[@]}")}
	}
	END
}

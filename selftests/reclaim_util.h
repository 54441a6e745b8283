/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of reclaim share. Include vm_util.h first. */
#ifndef RECLAIM_UTIL_H
#define RECLAIM_UTIL_H

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* The counter NAME of /proc/vmstat, -1 if there is none. */
static inline long vm_counter(const char *name)
{
	char line[256], fmt[64];
	long value = -1;
	FILE *file;

	snprintf(fmt, sizeof(fmt), "%s %%ld", name);
	file = fopen("/proc/vmstat", "r");
	if (!file)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, fmt, &value) != 1)
			value = -1;
	fclose(file);
	return value;
}

static inline bool have_swap(void)
{
	char line[256];
	int lines = 0;
	FILE *file;

	file = fopen("/proc/swaps", "r");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file))
		lines++;
	fclose(file);
	return lines > 1;
}

static inline void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		ksft_print_msg("cannot run on CPU %d: %s\n", cpu, strerror(errno));
}

/* Contents that zswap and zram cannot store as a single repeated word. */
static inline void fill_page(char *page, unsigned int seed)
{
	for (unsigned int i = 0; i < psize() / sizeof(seed); i++)
		((unsigned int *)page)[i] = seed + i;
}

#endif /* RECLAIM_UTIL_H */

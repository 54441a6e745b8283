/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of reclaim share. Include vm_util.h first. */
#ifndef RECLAIM_UTIL_H
#define RECLAIM_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Reports the first error, and counts them all, in S->errors. */
#define error(s, fmt, ...) do {						\
	if (!atomic_fetch_add(&(s)->errors, 1))				\
		ksft_print_msg("first error: " fmt "\n", ##__VA_ARGS__);\
} while (0)

/* For system calls that must not fail. */
#define must(s, condition) do {						\
	if (!(condition))						\
		error(s, "%s: %s", #condition, strerror(errno));	\
} while (0)

/* The counter NAME of a file, or with "" its only number; -1: has none. */
static inline long counter_of_file(const char *path, const char *name)
{
	char line[256], fmt[64];
	long value = -1;
	FILE *file;

	snprintf(fmt, sizeof(fmt), *name ? "%s %%ld" : "%%ld", name);
	file = fopen(path, "r");
	if (!file)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, fmt, &value) != 1)
			value = -1;
	fclose(file);
	return value;
}

static inline long vm_counter(const char *name)
{
	return counter_of_file("/proc/vmstat", name);
}

static inline long swapped_out(void)
{
	long zswap = vm_counter("zswpout");

	return vm_counter("pswpout") + (zswap > 0 ? zswap : 0);
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

/* Takes up to MAX CPUs that this thread may run on. */
static inline int take_cpus(int *cpus, int max)
{
	cpu_set_t set;
	int nr = 0;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 0;
	for (int cpu = 0; cpu < CPU_SETSIZE && nr < max; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[nr++] = cpu;
	return nr;
}

/* Contents that zswap and zram cannot store as a single repeated word. */
static inline void fill_page(char *page, unsigned int seed)
{
	for (unsigned int i = 0; i < psize() / sizeof(seed); i++)
		((unsigned int *)page)[i] = seed + i;
}

static inline bool write_text(int dir, const char *name, const char *text)
{
	ssize_t len = strlen(text);
	bool ok;
	int fd;

	fd = openat(dir, name, O_WRONLY);
	if (fd < 0)
		return false;
	ok = write(fd, text, len) == len;
	close(fd);
	return ok;
}

/*
 * A cgroup with memory.reclaim, for processes in the cgroup "leaf" below it.
 * The parent of the test has to remove it.
 */
struct reclaim_cgroup {
	char path[PATH_MAX];
	int dir;
	int reclaim_fd;		/* memory.reclaim, or -1 */
	const char *max_swappiness;	/* no file pages at all */
};

/* Without one, reclaim_fd is -1. */
static inline void make_cgroup(struct reclaim_cgroup *cgroup, const char *name)
{
	char line[PATH_MAX], root[PATH_MAX - 64] = "";
	FILE *file;

	cgroup->reclaim_fd = -1;
	file = fopen("/proc/self/mounts", "r");
	if (!file)
		return;
	while (!*root && fgets(line, sizeof(line), file))
		if (sscanf(line, "%*s %4000s cgroup2 ", root) != 1 ||
		    !strstr(line, " cgroup2 "))
			*root = '\0';
	fclose(file);
	if (!*root)
		return;

	snprintf(cgroup->path, sizeof(cgroup->path), "%s/%s.%d", root, name,
		 getpid());
	if (mkdir(cgroup->path, 0755)) {
		*cgroup->path = '\0';
		return;
	}
	cgroup->dir = open(cgroup->path, O_RDONLY | O_DIRECTORY);
	if (!write_text(cgroup->dir, "cgroup.subtree_control", "+memory") ||
	    mkdirat(cgroup->dir, "leaf", 0755))
		return;
	cgroup->reclaim_fd = openat(cgroup->dir, "memory.reclaim", O_WRONLY);
	/* before there was "max", that was 200 */
	cgroup->max_swappiness = write_text(cgroup->dir, "memory.reclaim",
					    "0 swappiness=max") ? "max" : "200";
}

/* For this process. If it cannot be entered, reclaim_fd is -1. */
static inline void enter_cgroup(struct reclaim_cgroup *cgroup, const char *name)
{
	make_cgroup(cgroup, name);
	if (cgroup->reclaim_fd >= 0 &&
	    !write_text(cgroup->dir, "leaf/cgroup.procs", "0"))
		cgroup->reclaim_fd = -1;
}

/* Removes it and CHILD below it, if there is one; false if that fails. */
static inline bool remove_cgroup_child(struct reclaim_cgroup *cgroup,
				       const char *child)
{
	char path[PATH_MAX + 16];

	if (!*cgroup->path)
		return true;
	snprintf(path, sizeof(path), "%s%s", cgroup->path, child);
	return !rmdir(path) || errno == ENOENT;
}

static inline bool remove_cgroup(struct reclaim_cgroup *cgroup)
{
	return remove_cgroup_child(cgroup, "/leaf") &&
	       remove_cgroup_child(cgroup, "");
}

/* Asks for that many bytes; there may be less, and io_uring may interrupt it. */
static inline bool reclaim_cgroup(struct reclaim_cgroup *cgroup, size_t size,
				  const char *swappiness)
{
	char request[64];

	if (!strcmp(swappiness, "max"))
		swappiness = cgroup->max_swappiness;
	snprintf(request, sizeof(request), "%zu swappiness=%s", size,
		 swappiness);
	return write(cgroup->reclaim_fd, request, strlen(request)) > 0 ||
	       errno == EAGAIN || errno == EINTR;
}

/* A setting of the system, and what it was; of several words, that in [] */
struct setting {
	char path[128];
	char value[128];
};

static inline bool change_setting(struct setting *setting, const char *path,
				  const char *value)
{
	char *old = setting->value, *first = old;

	if (!read_file(path, old, sizeof(setting->value)))
		return false;
	if (strchr(old, '['))
		first = strchr(old, '[') + 1;
	first[strcspn(first, "]\n")] = '\0';
	memmove(old, first, strlen(first) + 1);
	if (!write_text(AT_FDCWD, path, value))
		return false;
	snprintf(setting->path, sizeof(setting->path), "%s", path);
	return true;
}

/* Nothing happens if it was not changed. */
static inline bool restore_setting(struct setting *setting)
{
	return !*setting->path ||
	       write_text(AT_FDCWD, setting->path, setting->value);
}

#define THP	"/sys/kernel/mm/transparent_hugepage/"

/* Size of folios in KiB: of a PMD */
#define PMD	UINT_MAX

/* The file NAME that belongs to folios of that size */
static inline const char *thp_path(unsigned int kib, const char *name)
{
	static char path[128];

	if (kib == PMD)
		kib = read_pmd_pagesize() / 1024;
	snprintf(path, sizeof(path), THP "hugepages-%ukB/%s", kib, name);
	return path;
}

static inline unsigned long thp_count(unsigned int kib, const char *name)
{
	char value[32];

	return read_file(thp_path(kib, name), value, sizeof(value)) ?
		atol(value) : 0;
}

/*
 * Has the kernel use folios of that size, and not of a PMD if that is larger,
 * where MADV_HUGEPAGE asks for it.  Changes two settings.
 */
static inline bool want_folios(struct setting *settings, unsigned int kib,
			       bool shmem)
{
	const char *enabled = shmem ? "shmem_enabled" : "enabled";

	if (kib != PMD &&
	    !change_setting(&settings[0], thp_path(PMD, enabled), "never"))
		return false;
	return change_setting(&settings[1], thp_path(kib, enabled),
			      shmem ? "advise" : "madvise");
}

#endif /* RECLAIM_UTIL_H */

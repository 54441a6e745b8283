/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs that measure share.  Define _GNU_SOURCE first; what fails ends them. */
#ifndef TASK_H
#define TASK_H

#include <err.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* Monotonic */
static inline uint64_t now_nsec(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now))
		err(1, "clock_gettime");
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* Of the same clock */
static inline void sleep_until(uint64_t nsec)
{
	struct timespec at = { .tv_sec = nsec / 1000000000, .tv_nsec = nsec % 1000000000 };

	errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	if (errno)
		err(1, "clock_nanosleep");
}

/* This thread, on that CPU alone. */
static inline void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "cannot run on CPU %d", cpu);
}

/* xorshift64, its upper half; X is the state, not nought. */
static inline uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x >> 32;
}

/* How many pages were written to swap, or stored in zswap, since the boot? */
static inline uint64_t pages_written(void)
{
	char line[256];
	unsigned long long count, sum = 0;
	bool found = false;
	FILE *file = fopen("/proc/vmstat", "r");

	if (!file)
		err(1, "/proc/vmstat");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "pswpout %llu", &count) == 1)
			found = true;
		else if (sscanf(line, "zswpout %llu", &count) != 1)
			continue;
		sum += count;
	}
	fclose(file);
	if (!found)
		errx(1, "/proc/vmstat has no pswpout");
	return sum;
}

#endif

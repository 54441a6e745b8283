// SPDX-License-Identifier: GPL-2.0-only
/*
 * preempted - who has to wait for a page of which the reclaimer was preempted?
 *
 *	preempted [-t SECONDS] [-w USEC] [-l MSEC] [-n TOUCHES]
 *
 * Three threads.  The reclaimer, on the first CPU that it may run on, writes to all
 * pages of a region, a PMD's worth of base pages, and pages them out by MADV_PAGEOUT,
 * again and again.  A SCHED_FIFO thread on the same CPU wakes up at random.  If the
 * reclaimer is within MADV_PAGEOUT then, and was running, it is preempted: the FIFO
 * thread keeps the CPU until a toucher, on the second CPU, has written to some random
 * pages of the region.  If the toucher has not done so after a while, it is stuck: it
 * waits for a folio that the reclaimer has locked.  The CPU is released then, and the
 * toucher goes on.
 *
 *	-t SECONDS	for how long (20)
 *	-w USEC		the FIFO thread sleeps for that on average, evenly
 *			distributed from nought to twice that (10000)
 *	-l MSEC		the toucher is stuck when it took so long (150): two orders of
 *			magnitude more than reading its pages from swap takes, and well
 *			under the 950 ms of a second after which SCHED_FIFO is throttled
 *	-n TOUCHES	pages that it writes to (8)
 *
 * A touch adds one to a word of the page, and the reclaimer checks it: nobody writes
 * to that word but the toucher.
 *
 * Prints one line of key=value words:
 *
 *	calls		of MADV_PAGEOUT
 *	pages		written to swap, or stored in zswap, by the whole system
 *	preemptions	of the reclaimer within MADV_PAGEOUT
 *	stuck		the toucher was, in how many of these
 *	longest		the most milliseconds that the toucher took where it was not
 *			stuck: near -l MSEC some of the stuck were only slow
 *
 * Exit status 1 if anything failed, or if a touch was lost.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "number.h"
#include "region.h"
#include "task.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static uint64_t *region;		/* the first word of a page is the toucher's */
static uint64_t *touches;		/* what it has to be */
static size_t page_size, nr_pages;
static int first_cpu = -1, second_cpu = -1;
static long seconds = 20, wait_usec = 10000, limit_msec = 150, nr_touches = 8;

static int stat_fd;			/* /proc/PID/task/TID/stat of the reclaimer */
static atomic_bool paging_out, stop;
static atomic_ulong asked, answered;	/* turns of the toucher */
static uint64_t preemptions, stuck, longest_nsec;

static void find_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		err(1, "sched_getaffinity");
	for (int cpu = 0; cpu < CPU_SETSIZE && second_cpu < 0; cpu++) {
		if (!CPU_ISSET(cpu, &set))
			continue;
		if (first_cpu < 0)
			first_cpu = cpu;
		else
			second_cpu = cpu;
	}
	if (second_cpu < 0)
		errx(1, "needs two CPUs");
}

static uint64_t *page_at(size_t page)
{
	return region + page * (page_size / sizeof(*region));
}

/* It never sleeps, so that there is always a TLB to be flushed. */
static void *touch_pages(void *unused)
{
	uint64_t x = 0x9e3779b97f4a7c15;

	run_on(second_cpu);
	while (!stop) {
		if (asked == answered)
			continue;
		for (long i = 0; i < nr_touches; i++) {
			size_t page = next_random(&x) * nr_pages >> 32;

			(*page_at(page))++;
			touches[page]++;
		}
		answered++;
	}
	return unused;
}

/* Not one that sleeps within MADV_PAGEOUT, for I/O or a lock. */
static bool reclaimer_is_runnable(void)
{
	char line[256];
	ssize_t len = pread(stat_fd, line, sizeof(line) - 1, 0);
	char *state;

	if (len <= 0)
		err(1, "/proc/self/task/TID/stat");
	line[len] = 0;
	state = strrchr(line, ')');
	return state && !strncmp(state, ") R", 3);
}

/* The reclaimer does not run while this does. */
static void keep_cpu(void)
{
	uint64_t start = now_nsec(), nsec = 0;

	asked++;
	while (asked != answered && nsec <= limit_msec * 1000000ULL)
		nsec = now_nsec() - start;
	preemptions++;
	if (asked != answered)
		stuck++;
	else if (nsec > longest_nsec)
		longest_nsec = nsec;
}

static void *preempt(void *unused)
{
	struct sched_param param = { .sched_priority = 1 };
	uint64_t x = 0x2545f4914f6cdd1d, end = now_nsec() + seconds * 1000000000ULL;

	run_on(first_cpu);
	errno = pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
	if (errno)
		err(1, "SCHED_FIFO");
	while (now_nsec() < end) {
		uint64_t nsec = next_random(&x) * (2 * wait_usec * 1000) >> 32;
		struct timespec span = { .tv_sec = nsec / 1000000000, .tv_nsec = nsec % 1000000000 };

		if (clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL))
			err(1, "clock_nanosleep");
		/* one that was stuck goes on first */
		if (paging_out && asked == answered && reclaimer_is_runnable())
			keep_cpu();
	}
	stop = true;
	return unused;
}

/* Written to by this thread: what compresses to about half, behind the first word. */
static void write_pages(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	for (size_t page = 0; page < nr_pages; page++) {
		uint64_t *word = page_at(page);

		for (size_t i = 1; i < page_size / sizeof(*word); i++)
			word[i] = i < page_size / sizeof(*word) / 2 ? next_random(&x) : x;
	}
}

static void map_region(void)
{
	size_t size;

	page_size = sysconf(_SC_PAGESIZE);
	nr_pages = page_size / sizeof(void *);
	size = nr_pages * page_size;
	touches = calloc(nr_pages, sizeof(*touches));
	if (!touches)
		err(1, "no memory");
	region = map_anonymous(size, size);
}

static void open_stat(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", gettid());
	stat_fd = open(path, O_RDONLY);
	if (stat_fd < 0)
		err(1, "%s", path);
}

static void start(pthread_t *thread, void *(*run)(void *))
{
	errno = pthread_create(thread, NULL, run, NULL);
	if (errno)
		err(1, "pthread_create");
}

static void parse_options(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "t:w:l:n:")) != -1) {
		switch (opt) {
		case 't':
			seconds = number(optarg, 1, 86400);
			break;
		case 'w':
			wait_usec = number(optarg, 1, 1000000);
			break;
		case 'l':
			limit_msec = number(optarg, 1, 900);
			break;
		case 'n':
			nr_touches = number(optarg, 1, 1 << 20);
			break;
		default:
			exit(2);
		}
	}
	if (optind < argc)
		errx(2, "%s: unknown argument: see the head of preempted.c", argv[optind]);
}

int main(int argc, char **argv)
{
	uint64_t calls = 0, written, lost = 0;
	pthread_t toucher, preempter;

	parse_options(argc, argv);
	find_cpus();
	map_region();
	open_stat();
	run_on(first_cpu);
	start(&toucher, touch_pages);
	start(&preempter, preempt);
	written = pages_written();
	while (!stop) {
		write_pages();
		paging_out = true;
		if (madvise(region, nr_pages * page_size, MADV_PAGEOUT))
			err(1, "MADV_PAGEOUT");
		paging_out = false;
		calls++;
	}
	written = pages_written() - written;
	pthread_join(toucher, NULL);
	pthread_join(preempter, NULL);
	for (size_t page = 0; page < nr_pages; page++)
		lost += touches[page] - *page_at(page);
	printf("calls=%llu pages=%llu preemptions=%llu stuck=%llu longest=%.3f\n",
	       (unsigned long long)calls, (unsigned long long)written,
	       (unsigned long long)preemptions, (unsigned long long)stuck, longest_nsec / 1e6);
	if (lost)
		errx(1, "%lld touches were lost", (long long)lost);
	return fflush(stdout) ? 1 : 0;
}

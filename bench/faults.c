// SPDX-License-Identifier: GPL-2.0-only
/*
 * faults - how long faults take on memory that is being paged out
 *
 *	faults [-s MIB] [-p RATE] [-t SECONDS] [-m madvise|reclaim] [-g CGROUP]
 *	       [-w NSEC] [-n] [-H FILE]
 *
 * The main thread, on the first CPU it may run on, pages out a region of base
 * pages step by step, so that a given number of pages is written to swap each
 * second.  On every other CPU a thread touches random pages of the region, and
 * times each touch.
 *
 *	-s MIB		size of the region (32)
 *	-p RATE		pages a second that are to be written to swap (8000)
 *	-t SECONDS	for how long (10)
 *	-m madvise	a step is MADV_PAGEOUT of the next PMD (the default)
 *	-m reclaim	a step is a write of a PMD's size to memory.reclaim of
 *			CGROUP, anonymous memory only
 *	-g CGROUP	the directory of the cgroup that this process is in
 *	-w NSEC		a thread touches a page every NSEC nanoseconds, and spins
 *			in between (0: as fast as it can)
 *	-n		the main thread is nice 19, and has to share its CPU with
 *			a thread that is not and never sleeps
 *	-H FILE		writes the histogram of the faults, slowest first: a line
 *			for each bucket that is not empty, its lower bound in
 *			nanoseconds and the faults in it
 *
 * The schedule is absolute: the next step is due when as many pages should have
 * been written as have been, and comes at once if that was in the past.  So the
 * rate is the same on all kernels that can reach it, be it that they are faster,
 * or that more pages of a step are touched, and kept, before they are written.
 *
 * A touch adds one to a word of the page that is the thread's own, and checks
 * what it was: at most one fault, which is a write.  It lies between two
 * readings of CLOCK_MONOTONIC, by vDSO no system call.  Whether a touch took a
 * fault cannot be seen from user space without one.  But how many did is known,
 * by getrusage() before and after it all, and a fault takes longer than a plain
 * touch: of all touches the slowest, as many as there were faults, are taken
 * for the faults.  A plain touch that an interrupt or a busy host held up can
 * be among them in the place of a quick fault: at worst this makes the
 * figures too high.  "cut" is the quickest that was taken for a fault: well
 * above "plain", the median of all touches, it tells that the two can be told
 * apart.
 *
 * Prints one line of key=value words; times are microseconds, exact to 1.6 %:
 *
 *	touches		of all threads
 *	faults		minor and major
 *	plain		the median of all touches
 *	cut		the quickest of the faults
 *	p50 p99 p999	percentiles of the faults
 *	max		the slowest
 *	stalled		share of their time that the threads spent in faults,
 *			percent
 *	asked		pages a second that the steps were to page out
 *	rate		pages a second that were written to swap, or stored in zswap
 *	lag		the most milliseconds that a step began late
 *	errors		touches that found another count than was left there
 *
 * Exit status 1 if there were errors.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "number.h"
#include "reclaim.h"
#include "region.h"
#include "task.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

struct toucher {
	pthread_t thread;
	int nr;
	int cpu;
	uint32_t *counts;		/* expected, one a page */
	uint64_t buckets[NR_BUCKETS];
	uint64_t touches;
	uint64_t slowest;
	uint64_t faults;
	uint64_t errors;
};

static struct toucher *touchers;
static int nr_touchers, first_cpu = -1;
static uint32_t *region;
static size_t page_size, step_size, nr_pages;
static long wait_nsec;
static pthread_barrier_t barrier;
static volatile bool stop;
static char reclaim_path[4096], reclaim_request[64];

static uint64_t thread_faults(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_THREAD, &usage))
		err(1, "getrusage");
	return usage.ru_minflt + usage.ru_majflt;
}

/* The words of the threads are the first ones of the page. */
static uint32_t *word_of(struct toucher *t, size_t page)
{
	return region + page * (page_size / sizeof(*region)) + t->nr;
}

/* Times one touch and returns when it ended. */
static uint64_t touch(struct toucher *t, size_t page)
{
	uint32_t *word = word_of(t, page);
	uint64_t start = now_nsec(), end;
	uint32_t old;

	old = __atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
	end = now_nsec();

	t->errors += old != t->counts[page]++;
	t->buckets[bucket_of(end - start)]++;
	if (end - start > t->slowest)
		t->slowest = end - start;
	return end;
}

static void *touch_pages(void *arg)
{
	struct toucher *t = arg;
	uint64_t x = 0x9e3779b97f4a7c15 * (t->nr + 1), next, now;

	run_on(t->cpu);
	pthread_barrier_wait(&barrier);
	t->faults = thread_faults();
	now = now_nsec();
	next = now;
	while (!stop) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		now = touch(t, (x >> 32) * nr_pages >> 32);
		t->touches++;
		/* from now on, not to catch up after a fault */
		for (next = now + wait_nsec; now < next; )
			now = now_nsec();
	}
	t->faults = thread_faults() - t->faults;
	return NULL;
}

static void *be_busy(void *unused)
{
	run_on(first_cpu);
	pthread_barrier_wait(&barrier);
	while (!stop)
		;
	return unused;
}

/* Take the first CPU for this thread; leave the others to the touchers. */
static void assign_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		err(1, "sched_getaffinity");
	if (CPU_COUNT(&set) < 2)
		errx(1, "needs two CPUs");
	touchers = calloc(CPU_COUNT(&set) - 1, sizeof(*touchers));
	if (!touchers)
		err(1, "calloc");
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &set))
			continue;
		if (first_cpu < 0) {
			first_cpu = cpu;
			continue;
		}
		touchers[nr_touchers].nr = nr_touchers;
		touchers[nr_touchers].cpu = cpu;
		/* these pages must not fault while the threads run */
		touchers[nr_touchers].counts = calloc(nr_pages, sizeof(uint32_t));
		if (!touchers[nr_touchers].counts)
			err(1, "calloc");
		memset(touchers[nr_touchers].counts, 0, nr_pages * sizeof(uint32_t));
		nr_touchers++;
	}
	run_on(first_cpu);
}

static void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	errno = pthread_create(thread, NULL, run, arg);
	if (errno)
		err(1, "pthread_create");
}

/* What compresses to about half, behind the threads' words, which are nought. */
static void fill_region(void)
{
	size_t words = page_size / sizeof(*region);
	uint32_t x = 0x9e3779b9;

	for (size_t page = 0; page < nr_pages; page++) {
		for (size_t i = nr_touchers; i < words; i++) {
			if (i < words / 2) {
				x ^= x << 13;
				x ^= x >> 17;
				x ^= x << 5;
			}
			region[page * words + i] = x;
		}
	}
}

static void page_out(size_t step)
{
	size_t nr_steps = nr_pages * page_size / step_size;

	if (!*reclaim_path) {
		if (madvise((char *)region + step % nr_steps * step_size, step_size, MADV_PAGEOUT))
			err(1, "MADV_PAGEOUT");
		return;
	}
	request_reclaim(reclaim_path, reclaim_request);
}

/* What the main thread did */
struct pace {
	uint64_t steps;
	uint64_t nsec;
	uint64_t written;
	uint64_t lag;
};

static struct pace page_out_at(long rate, long seconds)
{
	uint64_t written = pages_written(), begin = now_nsec(), due = begin, now = begin;
	struct pace pace = {};

	while (now - begin < seconds * 1000000000ULL) {
		if (now - due > pace.lag)
			pace.lag = now - due;
		page_out(pace.steps++);
		pace.written = pages_written() - written;
		due = begin + pace.written * 1000000000 / rate;
		now = now_nsec();
		if (now < due) {
			sleep_until(due);
			now = now_nsec();
		}
	}
	pace.nsec = now - begin;
	return pace;
}

/* Add up all threads in the first one. */
static void sum_up(void)
{
	struct toucher *sum = touchers;

	for (struct toucher *t = touchers + 1; t < touchers + nr_touchers; t++) {
		sum->touches += t->touches;
		sum->faults += t->faults;
		sum->errors += t->errors;
		if (t->slowest > sum->slowest)
			sum->slowest = t->slowest;
		add_buckets(sum->buckets, t->buckets);
	}
}

/*
 * The histogram of the faults: leave the slowest touches of the first thread,
 * as many as there were faults.  Returns the nanoseconds that they took.
 */
static uint64_t keep_faults(void)
{
	struct toucher *sum = touchers;
	uint64_t left = sum->faults, nsec = 0;

	for (size_t i = NR_BUCKETS; i-- > 0; ) {
		if (sum->buckets[i] > left)
			sum->buckets[i] = left;
		left -= sum->buckets[i];
		nsec += sum->buckets[i] * bucket_start(i);
	}
	return nsec;
}

static void report(struct pace pace)
{
	struct toucher *sum = touchers;
	uint64_t *buckets = sum->buckets, nsec;
	double seconds = pace.nsec / 1e9;

	printf("touches=%llu faults=%llu plain=%.3f", (unsigned long long)sum->touches,
	       (unsigned long long)sum->faults, quantile(buckets, sum->touches / 2));
	nsec = keep_faults();
	printf(" cut=%.3f p50=%.3f p99=%.3f p999=%.3f max=%.3f stalled=%.3f",
	       quantile(buckets, sum->faults - 1), quantile(buckets, sum->faults / 2),
	       quantile(buckets, sum->faults / 100), quantile(buckets, sum->faults / 1000),
	       sum->slowest / 1e3, nsec / 1e7 / seconds / nr_touchers);
	printf(" asked=%.0f rate=%.0f lag=%.3f errors=%llu\n",
	       pace.steps * (step_size / page_size) / seconds, pace.written / seconds,
	       pace.lag / 1e6, (unsigned long long)sum->errors);
}

static void write_histogram(const char *path)
{
	FILE *file = fopen(path, "w");

	if (!file)
		err(1, "%s", path);
	for (size_t i = NR_BUCKETS; i-- > 0; )
		if (touchers->buckets[i])
			fprintf(file, "%llu %llu\n", (unsigned long long)bucket_start(i),
				(unsigned long long)touchers->buckets[i]);
	if (fclose(file))
		err(1, "%s", path);
}

static long mib = 32, rate = 8000, seconds = 10;
static const char *mode = "madvise", *cgroup, *histogram;
static bool nice_19;

static void parse_options(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "s:p:t:m:g:w:nH:")) != -1) {
		switch (opt) {
		case 's':
			mib = number(optarg, 4, 1 << 20);
			break;
		case 'p':
			rate = number(optarg, 1, 1000000000);
			break;
		case 't':
			seconds = number(optarg, 1, 86400);
			break;
		case 'm':
			mode = optarg;
			break;
		case 'g':
			cgroup = optarg;
			break;
		case 'w':
			wait_nsec = number(optarg, 0, 1000000000);
			break;
		case 'n':
			nice_19 = true;
			break;
		case 'H':
			histogram = optarg;
			break;
		default:
			exit(2);
		}
	}
	if (optind < argc || (strcmp(mode, "madvise") && strcmp(mode, "reclaim")) ||
	    !strcmp(mode, "reclaim") != !!cgroup)
		errx(2, "wrong arguments: see the head of faults.c");
	if (cgroup)
		snprintf(reclaim_path, sizeof(reclaim_path), "%s/memory.reclaim", cgroup);
}

int main(int argc, char **argv)
{
	pthread_t busy;
	struct pace pace;

	parse_options(argc, argv);
	page_size = sysconf(_SC_PAGESIZE);
	step_size = page_size * (page_size / sizeof(void *));
	nr_pages = ((size_t)mib << 20) / step_size * (step_size / page_size);
	if (!nr_pages)
		errx(2, "-s %ld: needs %zu MiB at least", mib, step_size >> 20);
	snprintf(reclaim_request, sizeof(reclaim_request), "%zuK swappiness=%s",
		 step_size >> 10, max_swappiness(reclaim_path));

	region = map_anonymous(nr_pages * page_size, step_size);
	assign_cpus();
	fill_region();
	pthread_barrier_init(&barrier, NULL, nr_touchers + nice_19 + 1);
	for (int i = 0; i < nr_touchers; i++)
		start(&touchers[i].thread, touch_pages, &touchers[i]);
	if (nice_19) {
		/* before, not to inherit it */
		start(&busy, be_busy, NULL);
		if (setpriority(PRIO_PROCESS, gettid(), 19))
			err(1, "setpriority");
	}
	pthread_barrier_wait(&barrier);
	pace = page_out_at(rate, seconds);
	stop = true;
	for (int i = 0; i < nr_touchers; i++)
		pthread_join(touchers[i].thread, NULL);

	sum_up();
	if (!touchers->faults)
		errx(1, "no touch took a fault: is there swap?");
	report(pace);
	if (histogram)
		write_histogram(histogram);
	return fflush(stdout) || touchers->errors ? 1 : 0;
}

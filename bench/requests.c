// SPDX-License-Identifier: GPL-2.0-only
/*
 * requests - how long requests take, and writes, while cold memory is reclaimed
 *
 *	requests [-c MIB] [-k MIB] [-r RATE] [-n WRITERS] [-h MIB] [-t SECONDS]
 *
 * Writers go round and round through cold memory, a page at a time.  A page that
 * was reclaimed comes back by that; one that is new, or comes back, takes memory
 * which then may have to be reclaimed.  On every CPU but the first a thread
 * serves requests, one after the other, out of hot memory, which is locked: it is
 * not asked here whether reclaim knows what is hot.
 *
 *	-c MIB		the cold memory (64); of base pages, as the hot one
 *	-k MIB		what is kept of it when it has been filled (all of it); the
 *			rest is paged out at once, and what is kept is made cold, so
 *			that nothing has to be reclaimed in a hurry before it begins
 *	-r RATE		pages a second that all writers together write (0: as many
 *			as they can); the schedule is absolute
 *	-n WRITERS	how many (1); each has a part of the cold memory
 *	-h MIB		the hot memory (4); with 0 there are no requests, and the
 *			writers run on any CPU, not on the first only
 *	-t SECONDS	for how long (10)
 *
 * When all memory is there, it prints "ready PID START END", the range of the
 * cold memory in hexadecimal, and waits for a line, or the end, of its standard
 * input.  Then it works, and prints a line of key=value words; times are
 * microseconds, exact to 1.6 %:
 *
 *	pages		written
 *	page_p50 page_p99 page_p999 page_max	of the writes
 *	requests	served
 *	request_p50 request_p99 request_p999 request_max
 *	lag		the most milliseconds that a write began late
 *	errors		writes that found another count than was left there
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
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "number.h"
#include "region.h"
#include "task.h"

#ifndef MADV_PAGEOUT
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif

/* The hot pages that a request writes to. */
#define REQUEST_PAGES	256

struct thread {
	pthread_t thread;
	int nr;
	int cpu;		/* -1: any */
	uint64_t buckets[NR_BUCKETS];
	uint64_t done;
	uint64_t slowest;
	uint64_t lag;
	uint64_t errors;
};

static struct thread *writers, *servers;
static int nr_writers = 1, nr_servers;
static char *cold, *hot;
static size_t page_size, cold_pages, kept_pages, hot_pages;
static long rate;
static pthread_barrier_t filled, begin;
static volatile bool stop;

static void count(struct thread *t, uint64_t nsec)
{
	t->buckets[bucket_of(nsec)]++;
	t->done++;
	if (nsec > t->slowest)
		t->slowest = nsec;
}

/* What compresses to about half, behind a first word that is nought. */
static void fill(char *page)
{
	size_t words = page_size / sizeof(uint64_t);
	uint64_t *word = (uint64_t *)page, x = 0x9e3779b97f4a7c15 ^ (uintptr_t)page;

	for (size_t i = 1; i < words; i++) {
		if (i < words / 2) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		word[i] = x;
	}
}

/* Pages, the last of them to be kept; a PMD at a time. */
static void fill_cold(char *pages, size_t nr, size_t kept)
{
	size_t step;

	for (size_t i = 0; i < nr; i += step) {
		step = nr - i < 512 ? nr - i : 512;
		for (size_t j = i; j < i + step; j++)
			fill(pages + j * page_size);
		if (madvise(pages + i * page_size, step * page_size,
			    i + kept < nr ? MADV_PAGEOUT : MADV_COLD))
			err(1, "cannot page out");
	}
}

static void *write_cold(void *arg)
{
	struct thread *t = arg;
	size_t nr_pages = cold_pages / nr_writers;
	char *part = cold + t->nr * nr_pages * page_size;
	uint64_t start, first;

	if (t->cpu >= 0)
		run_on(t->cpu);
	fill_cold(part, nr_pages, kept_pages / nr_writers);
	pthread_barrier_wait(&filled);
	pthread_barrier_wait(&begin);
	first = now_nsec();
	while (!stop) {
		uint64_t *word = (uint64_t *)(part + t->done % nr_pages * page_size);
		uint64_t due = first;

		if (rate)
			due += t->done * 1000000000 * nr_writers / rate;
		start = now_nsec();
		if (start < due) {
			sleep_until(due);
			start = now_nsec();
		}
		if (rate && start - due > t->lag)
			t->lag = start - due;
		t->errors += (*word)++ != t->done / nr_pages;
		count(t, now_nsec() - start);
	}
	return NULL;
}

static void *serve(void *arg)
{
	struct thread *t = arg;
	uint64_t x = 0x9e3779b97f4a7c15 * (t->nr + 1), start;

	if (t->cpu >= 0)
		run_on(t->cpu);
	pthread_barrier_wait(&filled);
	pthread_barrier_wait(&begin);
	while (!stop) {
		start = now_nsec();
		for (int i = 0; i < REQUEST_PAGES; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			/* a word of its own, not to share cache lines */
			hot[((x >> 32) * hot_pages >> 32) * page_size + t->nr * 64 % page_size]++;
		}
		count(t, now_nsec() - start);
	}
	return NULL;
}

/* Writers on the first CPU, a server on each of the others. */
static void assign_cpus(void)
{
	int first_cpu = -1;
	cpu_set_t set;

	writers = calloc(nr_writers, sizeof(*writers));
	servers = calloc(CPU_SETSIZE, sizeof(*servers));
	if (!writers || !servers)
		err(1, "calloc");
	if (sched_getaffinity(0, sizeof(set), &set))
		err(1, "sched_getaffinity");
	for (int cpu = 0; cpu < CPU_SETSIZE && hot_pages; cpu++) {
		if (!CPU_ISSET(cpu, &set))
			continue;
		if (first_cpu < 0) {
			first_cpu = cpu;
			continue;
		}
		servers[nr_servers].nr = nr_servers;
		servers[nr_servers++].cpu = cpu;
	}
	if (hot_pages && !nr_servers)
		errx(1, "needs two CPUs");
	for (int i = 0; i < nr_writers; i++) {
		writers[i].nr = i;
		writers[i].cpu = first_cpu;
	}
}

static void start(struct thread *t, int nr, void *(*run)(void *))
{
	for (; nr; nr--, t++) {
		errno = pthread_create(&t->thread, NULL, run, t);
		if (errno)
			err(1, "pthread_create");
	}
}

/* Wait for all, and add them up in the first one. */
static void sum_up(struct thread *sum, int nr)
{
	for (struct thread *t = sum; t < sum + nr; t++) {
		pthread_join(t->thread, NULL);
		if (t == sum)
			continue;
		sum->done += t->done;
		sum->errors += t->errors;
		if (t->lag > sum->lag)
			sum->lag = t->lag;
		if (t->slowest > sum->slowest)
			sum->slowest = t->slowest;
		add_buckets(sum->buckets, t->buckets);
	}
}

static void report(const char *name, const struct thread *t)
{
	printf("%ss=%llu %s_p50=%.3f %s_p99=%.3f %s_p999=%.3f %s_max=%.3f ",
	       name, (unsigned long long)t->done, name, quantile(t->buckets, t->done / 2),
	       name, quantile(t->buckets, t->done / 100),
	       name, quantile(t->buckets, t->done / 1000), name, t->slowest / 1e3);
}

int main(int argc, char **argv)
{
	long cold_mib = 64, kept_mib = 0, hot_mib = 4, seconds = 10;
	int opt;

	while ((opt = getopt(argc, argv, "c:k:r:n:h:t:")) != -1) {
		switch (opt) {
		case 'c':
			cold_mib = number(optarg, 1, 1 << 24);
			break;
		case 'k':
			kept_mib = number(optarg, 1, 1 << 24);
			break;
		case 'r':
			rate = number(optarg, 0, 1000000000);
			break;
		case 'n':
			nr_writers = number(optarg, 1, 4096);
			break;
		case 'h':
			hot_mib = number(optarg, 0, 1 << 20);
			break;
		case 't':
			seconds = number(optarg, 1, 86400);
			break;
		default:
			return 2;
		}
	}
	if (optind < argc)
		errx(2, "wrong arguments: see the head of requests.c");
	page_size = sysconf(_SC_PAGESIZE);
	cold_pages = ((size_t)cold_mib << 20) / page_size;
	kept_pages = kept_mib ? ((size_t)kept_mib << 20) / page_size : cold_pages;
	hot_pages = ((size_t)hot_mib << 20) / page_size;

	cold = map_anonymous(cold_pages * page_size, 1);
	if (hot_pages) {
		hot = map_anonymous(hot_pages * page_size, 1);
		if (mlock(hot, hot_pages * page_size))
			err(1, "mlock");
	}
	assign_cpus();
	pthread_barrier_init(&filled, NULL, nr_writers + nr_servers + 1);
	pthread_barrier_init(&begin, NULL, nr_writers + nr_servers + 1);
	start(writers, nr_writers, write_cold);
	start(servers, nr_servers, serve);
	pthread_barrier_wait(&filled);
	printf("ready %d %lx %lx\n", getpid(), (unsigned long)cold,
	       (unsigned long)(cold + cold_pages * page_size));
	fflush(stdout);
	while (opt = getchar(), opt != EOF && opt != '\n')
		;
	pthread_barrier_wait(&begin);
	sleep(seconds);
	stop = true;
	sum_up(writers, nr_writers);
	sum_up(servers, nr_servers);

	report("page", writers);
	if (nr_servers)
		report("request", servers);
	printf("lag=%.3f errors=%llu\n", writers->lag / 1e6, (unsigned long long)writers->errors);
	return fflush(stdout) || writers->errors ? 1 : 0;
}

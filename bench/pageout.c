// SPDX-License-Identifier: GPL-2.0-only
/*
 * pageout - what it costs to page out dirty memory that other CPUs may write
 *
 *	pageout [-s MIB] [-r ROUNDS] [-c OTHERS] [-g CGROUP | -f FILE]
 *
 * The main thread, on the first CPU it may run on, dirties a region of base
 * pages and has it paged out; a thread on every other CPU, or on OTHERS of them, keeps
 * the address space active there, so that each TLB flush is an IPI to all of them.
 *
 *	-s MIB		size of the region (32)
 *	-r ROUNDS	rounds to report (5), after one that is not
 *	-c OTHERS	how many of the other CPUs (all)
 *	-g CGROUP	page out by CGROUP/memory.reclaim, anonymous memory
 *			only, not by MADV_PAGEOUT; CGROUP is the directory of
 *			the cgroup that this process is in
 *	-f FILE		the region is a shared mapping of the new FILE, which is
 *			removed at the end. Reclaim leaves its dirty pages to the
 *			flusher: after the pageout the file is synced, and then a
 *			word of each page is written to
 *
 * Prints a line of key=value words for each round, all of them about the time
 * between the start of the pageout and its end:
 *
 *	usec		microseconds
 *	pswpout		pages written to swap, by the whole system
 *	gone		pages of the region not mapped at the end, by pagemap
 *	pages		pages of the region
 *	flushes		TLB flushes asked of other CPUs (CONFIG_DEBUG_TLBFLUSH)
 *	tlb_ipis	TLB shootdowns received, by all CPUs (x86)
 *	cal_ipis	function-call interrupts received, by all CPUs (x86, where
 *			they are not those for the TLB; arm64; riscv64, where TLB
 *			shootdowns are of these, if it is the kernel that sends them)
 *	loops		iterations of the other threads
 *
 * With -f the same, with sync_ before the name, of the sync, and with touch_, of the
 * writing, and touch_faults, page faults of that.
 *
 * What this kernel or machine does not count is left out.  After each round
 * the region is read back; contents that differ end the program with status 1.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
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

#include "number.h"
#include "reclaim.h"
#include "region.h"
#include "task.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define LOOP_WORDS	8192

struct looper {
	pthread_t thread;
	int cpu;
	volatile uint64_t loops;
	volatile uint64_t words[LOOP_WORDS];
};

/* A count is -1 where the kernel does not keep it. */
struct snapshot {
	int64_t pswpout;
	int64_t flushes;
	int64_t tlb_ipis;
	int64_t cal_ipis;
	int64_t loops;
	int64_t faults;
	int64_t nsec;
};

static struct looper *loopers;
static int nr_loopers;
static uint64_t *region;
static int file = -1;
static size_t page_size, page_words, nr_pages;
static char reclaim_path[4096], reclaim_request[64];

static void *loop(void *arg)
{
	struct looper *l = arg;

	run_on(l->cpu);
	/* 520 words a step: another page and another cache line each time */
	for (uint64_t i = 0;; i += 520) {
		l->words[i % LOOP_WORDS]++;
		l->loops++;
	}
	return NULL;
}

/* Take the first CPU for this thread; start a looper on each of the others, at most max. */
static void start_loopers(long max)
{
	cpu_set_t set;
	int first = -1;

	if (sched_getaffinity(0, sizeof(set), &set))
		err(1, "sched_getaffinity");
	loopers = calloc(CPU_COUNT(&set), sizeof(*loopers));
	if (!loopers)
		err(1, "calloc");
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &set))
			continue;
		if (first < 0)
			first = cpu;
		else if (nr_loopers < max)
			loopers[nr_loopers++].cpu = cpu;
	}
	run_on(first);
	for (int i = 0; i < nr_loopers; i++) {
		struct looper *l = &loopers[i];

		errno = pthread_create(&l->thread, NULL, loop, l);
		if (errno)
			err(1, "pthread_create");
		while (!l->loops)
			sched_yield();
	}
}

/*
 * The text of a file in a buffer that the next call overwrites.  No stdio and
 * no allocation: freeing memory would flush TLBs between two snapshots.
 */
static char *slurp(const char *path)
{
	static char text[4 << 20];
	size_t len = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		err(1, "%s", path);
	while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	if (n < 0)
		err(1, "%s", path);
	if (len == sizeof(text) - 1)
		errx(1, "%s: larger than %zu bytes", path, len);
	close(fd);
	text[len] = '\0';
	return text;
}

/* The sum of the numbers on the line of text that begins with name, or -1. */
static int64_t row_sum(const char *text, const char *name)
{
	size_t len = strlen(name);
	int64_t sum = 0;

	for (; text; text = strchr(text, '\n'), text = text ? text + 1 : NULL) {
		const char *p = text + strspn(text, " ");
		char *end;

		if (strncmp(p, name, len))
			continue;
		for (p += len;; p = end) {
			int64_t n = strtoll(p, &end, 10);

			if (end == p)
				return sum;
			sum += n;
		}
	}
	return -1;
}

static void snap_counts(struct snapshot *s)
{
	const char *text = slurp("/proc/vmstat");

	s->pswpout = row_sum(text, "pswpout ");
	s->flushes = row_sum(text, "nr_tlb_remote_flush ");
	text = slurp("/proc/interrupts");
	s->tlb_ipis = row_sum(text, "TLB:");
	s->cal_ipis = row_sum(text, "CAL:");
	if (s->cal_ipis < 0)
		s->cal_ipis = row_sum(text, "IPI1:");	/* arm64, riscv64 */
}

static void snap_loops_and_time(struct snapshot *s)
{
	struct timespec now;
	struct rusage usage;

	s->loops = nr_loopers ? 0 : -1;
	for (int i = 0; i < nr_loopers; i++)
		s->loops += loopers[i].loops;
	if (getrusage(RUSAGE_THREAD, &usage))
		err(1, "getrusage");
	s->faults = usage.ru_minflt;
	if (clock_gettime(CLOCK_MONOTONIC, &now))
		err(1, "clock_gettime");
	s->nsec = now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* To about half compressible: see region.h. */
static bool fill_or_check_page(size_t page, uint64_t round, bool fill)
{
	return fill_or_check(region + page * page_words, page_words, page_words / 2,
			     (page << 16) + round, fill);
}

static size_t count_gone(void)
{
	static uint64_t entry[512];
	size_t gone = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	if (fd < 0)
		err(1, "/proc/self/pagemap");
	for (size_t page = 0; page < nr_pages; page += 512) {
		size_t n = nr_pages - page < 512 ? nr_pages - page : 512;
		off_t at = ((uintptr_t)region / page_size + page) * sizeof(*entry);

		if (pread(fd, entry, n * sizeof(*entry), at) != (ssize_t)(n * sizeof(*entry)))
			err(1, "/proc/self/pagemap");
		for (size_t i = 0; i < n; i++)
			gone += !(entry[i] >> 63);
	}
	close(fd);
	return gone;
}

static void pageout_madvise(void)
{
	if (madvise(region, nr_pages * page_size, MADV_PAGEOUT))
		err(1, "MADV_PAGEOUT");
}

static void pageout_reclaim(void)
{
	request_reclaim(reclaim_path, reclaim_request);
}

static void sync_file(void)
{
	if (fsync(file))
		err(1, "fsync");
}

/* Writes to each page, and changes nothing. */
static void touch(void)
{
	for (size_t page = 0; page < nr_pages; page++)
		__atomic_fetch_add(&region[page * page_words + page_words - 1], 0, __ATOMIC_RELAXED);
}

/* What happened between the start of WORK and its end. */
struct measured {
	struct snapshot before, after;
};

static void measure(struct measured *m, void (*work)(void))
{
	snap_counts(&m->before);
	snap_loops_and_time(&m->before);
	work();
	snap_loops_and_time(&m->after);
	snap_counts(&m->after);
}

static void print_count(const char *prefix, const char *name, int64_t before, int64_t after)
{
	if (before >= 0)
		printf(" %s%s=%lld", prefix, name, (long long)(after - before));
}

static void print_measured(const char *prefix, const struct measured *m)
{
	printf("%s%susec=%.1f", *prefix ? " " : "", prefix, (m->after.nsec - m->before.nsec) / 1e3);
	print_count(prefix, "pswpout", m->before.pswpout, m->after.pswpout);
	print_count(prefix, "flushes", m->before.flushes, m->after.flushes);
	print_count(prefix, "tlb_ipis", m->before.tlb_ipis, m->after.tlb_ipis);
	print_count(prefix, "cal_ipis", m->before.cal_ipis, m->after.cal_ipis);
	print_count(prefix, "loops", m->before.loops, m->after.loops);
}

static void run_round(int round, void (*pageout)(void))
{
	struct measured out, sync, use;
	size_t gone;

	/*
	 * Dirtied by the thread that pages out: a page in the LRU-add batch of
	 * another CPU could not be isolated.
	 */
	for (size_t page = 0; page < nr_pages; page++)
		fill_or_check_page(page, round, true);

	measure(&out, pageout);
	gone = count_gone();
	if (file >= 0) {
		measure(&sync, sync_file);
		measure(&use, touch);
	}

	for (size_t page = 0; page < nr_pages; page++)
		if (!fill_or_check_page(page, round, false))
			errx(1, "round %d: page %zu came back with other contents", round, page);
	if (!round)
		return;
	print_measured("", &out);
	printf(" pages=%zu gone=%zu", nr_pages, gone);
	if (file >= 0) {
		print_measured("sync_", &sync);
		print_measured("touch_", &use);
		print_count("touch_", "faults", use.before.faults, use.after.faults);
	}
	putchar('\n');
}

/* Written page by page, without read-ahead, so that its folios are small. */
static void map_file(const char *path)
{
	static char page[65536];

	file = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (file < 0)
		err(1, "%s", path);
	unlink(path);
	posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
	for (size_t i = 0; i < nr_pages; i++)
		if (write(file, page, page_size) != (ssize_t)page_size)
			err(1, "%s", path);
	if (fsync(file))
		err(1, "%s", path);
	region = mmap(NULL, nr_pages * page_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (region == MAP_FAILED)
		err(1, "%s", path);
}

int main(int argc, char **argv)
{
	void (*pageout)(void) = pageout_madvise;
	const char *path = NULL;
	long mib = 32, rounds = 5, others = CPU_SETSIZE;
	int opt;

	while ((opt = getopt(argc, argv, "s:r:c:g:f:")) != -1) {
		switch (opt) {
		case 's':
			mib = number(optarg, 1, 1 << 20);
			break;
		case 'r':
			rounds = number(optarg, 1, 1 << 20);
			break;
		case 'c':
			others = number(optarg, 0, CPU_SETSIZE);
			break;
		case 'g':
			pageout = pageout_reclaim;
			snprintf(reclaim_path, sizeof(reclaim_path), "%s/memory.reclaim", optarg);
			break;
		case 'f':
			path = optarg;
			break;
		default:
			return 2;
		}
	}
	if (optind < argc)
		errx(2, "usage: pageout [-s MIB] [-r ROUNDS] [-c OTHERS] [-g CGROUP | -f FILE]");
	snprintf(reclaim_request, sizeof(reclaim_request), "%ldM swappiness=%s",
		 mib, max_swappiness(reclaim_path));

	page_size = sysconf(_SC_PAGESIZE);
	page_words = page_size / sizeof(*region);
	nr_pages = ((size_t)mib << 20) / page_size;
	if (path)
		map_file(path);
	else
		region = map_anonymous(nr_pages * page_size, 1);

	start_loopers(others);
	for (int round = 0; round <= rounds; round++)
		run_round(round, pageout);
	return fflush(stdout) ? 1 : 0;
}

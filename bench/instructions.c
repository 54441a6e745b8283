// SPDX-License-Identifier: GPL-2.0-only
/*
 * instructions - how many instructions it takes to reclaim pages
 *
 *	instructions -k KIND [-s MIB] [-r ROUNDS] [-g CGROUP]
 *
 * Runs on the one CPU of a QEMU with -icount shift=0, where each instruction
 * takes a nanosecond; says so and ends with status 1 anywhere else.  Fills a
 * region of base pages, has it reclaimed, and checks what comes back.
 *
 *	-k KIND		what the region is:
 *			anon		dirty anonymous memory
 *			same		the same, but each page holds one word
 *					only, over and over: zram and zswap need
 *					not compress it
 *			shmem		dirty shared memory
 *			swapcache	clean anonymous memory: it is in swap
 *					and in the swap cache, too, if the swap
 *					is not SWP_SYNCHRONOUS_IO, as zram is
 *			file		clean pages of a file in the working
 *					directory, mapped
 *			cache		the same, not mapped: needs -g
 *	-s MIB		size of the region (16)
 *	-r ROUNDS	rounds to report (9), after one that is not
 *	-g CGROUP	reclaim by CGROUP/memory.reclaim, not by MADV_PAGEOUT, and
 *			seven eighths of the region only: the search for the
 *			last ones would count, too; CGROUP is the directory of
 *			the cgroup that this process is in
 *
 * Prints a line of key=value words for each round:
 *
 *	instructions	of this thread, user mode and kernel, and interrupts that
 *			came meanwhile; each repetition of a string instruction
 *			counts
 *	gone		pages of the region that are no longer in memory
 *	pages		pages of the region
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "number.h"
#include "reclaim.h"
#include "region.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* In the order of kind_names */
enum kind { ANON, SAME, SHMEM, SWAPCACHE, FILE_MAPPED, FILE_CACHE };

static const char *const kind_names[] = {
	"anon", "same", "shmem", "swapcache", "file", "cache"
};

static enum kind kind;
static uint64_t *region;
static int region_fd = -1;
static size_t page_size, page_words, nr_pages;
static char reclaim_path[4096], reclaim_request[64];

/* The CPU time leaves out other threads, and an idle CPU, whose clock runs. */
static int64_t instructions(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now))
		err(1, "clock_gettime");
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* A loop of two instructions, in a try that no timer interrupted */
static int64_t loop_instructions(uint64_t iterations)
{
	int64_t fewest = INT64_MAX;

	for (int try = 0; try < 20; try++) {
		uint64_t n = iterations;
		int64_t start = instructions(), count;

#if defined(__x86_64__)
		asm volatile("1: dec %0; jnz 1b" : "+r"(n) : : "cc");
#elif defined(__aarch64__)
		asm volatile("1: subs %0, %0, #1; b.ne 1b" : "+r"(n) : : "cc");
#elif defined(__riscv)
		asm volatile("1: addi %0, %0, -1; bnez %0, 1b" : "+r"(n));
#else
#error "write a loop of two instructions for this architecture"
#endif
		count = instructions() - start;
		if (count < fewest)
			fewest = count;
	}
	return fewest;
}

/* Are instructions counted?  To 0.1 %: the kernel measures its clock's rate. */
static void check_instructions(void)
{
	int64_t count = loop_instructions(200000) - loop_instructions(100000);

	if (count < 199800 || count > 200200)
		errx(1, "%lld counted for 200000 instructions: run it in QEMU with -icount shift=0",
		     (long long)count);
}

/* To about half compressible, or wholly: see region.h. */
static bool fill_or_check_page(size_t page, uint64_t round, bool fill)
{
	return fill_or_check(region + page * page_words, page_words,
			     kind == SAME ? 0 : page_words / 2, (page << 16) + round, fill);
}

static void check_region(int round)
{
	for (size_t page = 0; page < nr_pages; page++)
		if (!fill_or_check_page(page, round, false))
			errx(1, "round %d: page %zu came back with other contents",
			     round, page);
}

static void map_region(void)
{
	int flags = MAP_SHARED | MAP_ANONYMOUS;
	char name[] = "./instructions.XXXXXX";

	if (kind == FILE_MAPPED || kind == FILE_CACHE) {
		flags = MAP_SHARED;
		region_fd = mkstemp(name);
		if (region_fd < 0 || unlink(name))
			err(1, "%s", name);
	} else if (kind != SHMEM) {
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
	}
	region = mmap(NULL, nr_pages * page_size, PROT_READ | PROT_WRITE, flags, region_fd, 0);
	if (region == MAP_FAILED)
		err(1, "mmap");
	small_pages(region, nr_pages * page_size);
}

static void advise(int advice, const char *name)
{
	if (madvise(region, nr_pages * page_size, advice))
		err(1, "%s", name);
}

/* New pages: those that come back after reclaim might be activated. */
static void drop_region(void)
{
	if (region_fd >= 0) {
		if (ftruncate(region_fd, 0))
			err(1, "ftruncate");
		/* one by one, so that the folios are small */
		for (size_t page = 0; page < nr_pages; page++)
			if (pwrite(region_fd, "", 1, page * page_size) != 1)
				err(1, "pwrite");
		if (ftruncate(region_fd, nr_pages * page_size))
			err(1, "ftruncate");
	} else if (kind == SHMEM) {
		advise(MADV_REMOVE, "MADV_REMOVE");
	} else {
		advise(MADV_DONTNEED, "MADV_DONTNEED");
	}
}

static bool under_writeback(void)
{
	char line[256];
	long count = -1;
	FILE *file = fopen("/proc/vmstat", "r");

	if (!file)
		err(1, "/proc/vmstat");
	while (count < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "nr_writeback %ld", &count) != 1)
			count = -1;
	fclose(file);
	if (count < 0)
		errx(1, "/proc/vmstat has no nr_writeback");
	return count;
}

static void prepare_region(int round)
{
	drop_region();
	for (size_t page = 0; page < nr_pages; page++)
		fill_or_check_page(page, round, true);

	if (region_fd >= 0 && fsync(region_fd))
		err(1, "fsync");
	if (kind == FILE_CACHE)
		advise(MADV_DONTNEED, "MADV_DONTNEED");
	if (kind == SWAPCACHE) {
		advise(MADV_PAGEOUT, "MADV_PAGEOUT");
		check_region(round);
		while (under_writeback())
			usleep(1000);
	}
}

static void reclaim(void)
{
	if (*reclaim_path)
		request_reclaim(reclaim_path, reclaim_request);
	else
		advise(MADV_PAGEOUT, "MADV_PAGEOUT");
}

static size_t count_gone(void)
{
	unsigned char *resident = malloc(nr_pages);
	size_t gone = 0;

	if (!resident || mincore(region, nr_pages * page_size, resident))
		err(1, "mincore");
	for (size_t page = 0; page < nr_pages; page++)
		gone += !(resident[page] & 1);
	free(resident);
	return gone;
}

static void run_round(int round)
{
	int64_t count;
	size_t gone;

	prepare_region(round);
	count = instructions();
	reclaim();
	count = instructions() - count;
	gone = count_gone();
	check_region(round);
	if (round)
		printf("instructions=%lld gone=%zu pages=%zu\n", (long long)count, gone, nr_pages);
}

static enum kind kind_named(const char *name)
{
	for (size_t i = 0; i < sizeof(kind_names) / sizeof(*kind_names); i++)
		if (!strcmp(name, kind_names[i]))
			return i;
	errx(2, "no kind '%s': see the head of instructions.c", name);
}

int main(int argc, char **argv)
{
	long mib = 16, rounds = 9;
	bool kind_given = false;
	int opt;

	while ((opt = getopt(argc, argv, "k:s:r:g:")) != -1) {
		switch (opt) {
		case 'k':
			kind = kind_named(optarg);
			kind_given = true;
			break;
		case 's':
			mib = number(optarg, 1, 1 << 20);
			break;
		case 'r':
			rounds = number(optarg, 1, 1000);
			break;
		case 'g':
			snprintf(reclaim_path, sizeof(reclaim_path), "%s/memory.reclaim", optarg);
			break;
		default:
			return 2;
		}
	}
	if (optind < argc || !kind_given)
		errx(2, "usage: instructions -k KIND [-s MIB] [-r ROUNDS] [-g CGROUP]");
	if (kind == FILE_CACHE && !*reclaim_path)
		errx(2, "-k cache needs -g: madvise reaches mapped pages only");
	snprintf(reclaim_request, sizeof(reclaim_request), "%ldK swappiness=%s",
		 mib * 1024 / 8 * 7, kind < FILE_MAPPED ? max_swappiness(reclaim_path) : "0");

	check_instructions();
	page_size = sysconf(_SC_PAGESIZE);
	page_words = page_size / sizeof(*region);
	nr_pages = ((size_t)mib << 20) / page_size;
	map_region();
	for (int round = 0; round <= rounds; round++)
		run_round(round);
	return fflush(stdout) ? 1 : 0;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * dirty-pages - dirty memory, have it paged out, verify it
 *
 *	dirty-pages [OPTION]...
 *
 *	-t TASKS	processes, each with memory of its own (1)
 *	-k KIND		kind of memory (anon); give it more than once for more
 *			regions:
 *			anon	base pages
 *			thp	huge pages, as far as the system has them on
 *			shmem	shared, huge as the system has it
 *			file	a file, mapped shared and written there
 *			cow	a file, mapped private: every other page is
 *				written there, so is anonymous; of the others
 *				one half is dirty, one clean page cache
 *			few	a file of holes, mapped private: every 16th page
 *				is written there, the others are read: clean, and
 *				no buffers to release
 *	-d DIR		where the files are made (.)
 *	-s MIB		size of each region (8)
 *	-r ROUNDS	(1)
 *	-u PAGES	what is written, or dropped, or kept together (512)
 *	-x		contents that do not compress (half does)
 *	-z		only every 16th page has contents; the kernel swaps out
 *			pages of zeroes without I/O
 *	-o HOW		madvise: MADV_PAGEOUT, one call for all regions of a
 *			task; passes: MADV_PAGEOUT, one call for each PMD, so one
 *			pass of reclaim, and "pass" in the trace after each; none:
 *			leave it to the memory pressure; FILE: ask this
 *			memory.reclaim for the size of a task (madvise)
 *	-f THREADS	of each task, read, check and write its pages while they
 *			are paged out (0)
 *	-v		they do so by process_vm_readv() and process_vm_writev(), which
 *			pin the page
 *	-n		page out at nice 19 on the first CPU, next to two busy
 *			threads of nice 0; the threads of -f run on the second
 *	-m		take memory from the first NUMA node alone; reclaim may
 *			still move it to another
 *	-w		before the last verify print "ready" and wait for a line
 *			from standard input
 *	-b		while it waits for it, keep the address space in use, on
 *			the second CPU, at nice -20 (one task)
 *	-p PROCESSES	more for each task, that have all its pages mapped while it
 *			waits for that line; the regions must be shared (0)
 *	-h		while it waits for that line, every other page is in no page
 *			table, but in memory, and dirty; the regions must be shared
 *	-l		lock in memory what a task has when it starts, code, data and
 *			stack, so that hardly anything but its regions is paged out
 *	-e		change one page before the last verify: it must fail
 *
 * A round writes every other unit of the memory (the first one all of it),
 * pages out, drops half of the other units, which read as zeroes then (files are
 * not dropped), pages out what had no room before, and verifies the units not
 * written.  In the end all is verified, files also as they are on disk.
 *
 * Exit status: 0 if all contents were right, 1 if not or if anything failed,
 * 128 + N if nothing did, but signal N killed a task.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../bench/number.h"
#include "../../bench/task.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define PAGE_SIZE	4096UL
#define PAGE_WORDS	(PAGE_SIZE / sizeof(uint64_t))
#define HUGE_SIZE	(2UL << 20)
#define REGIONS_MAX	8
#define THREADS_MAX	8
#define BUSY_THREADS	2
#define SHARERS_MAX	255

enum kind { ANON, THP, SHMEM, FILE_SHARED, COW, FEW, NR_KINDS };

static const char * const kind_names[NR_KINDS] = { "anon", "thp", "shmem", "file", "cow",
						  "few" };

/* A page of generation 0 is zero. */
struct region {
	enum kind kind;
	int fd;
	uint64_t *at;
	uint32_t *generation;
	uint64_t seed;
};

static struct region regions[REGIONS_MAX];
static size_t nr_regions, nr_pages, unit = 512;
static const char *dir = ".", *how = "madvise";
static long nr_tasks = 1, nr_rounds = 1, nr_faulters, nr_sharers, mib = 8;
static bool random_data, mostly_zero, unfair, wait_for_line, busy, lock_rest,
	    half_mapped, remote, spoil;
static int task, ready[2], go[2];
static volatile bool stop;

/* What the word of a page is, given the one before. */
static uint64_t next_word(uint64_t x, size_t i)
{
	if (!random_data && i >= PAGE_WORDS / 2)
		return x;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static uint64_t page_seed(const struct region *r, size_t page)
{
	uint32_t generation = r->generation[page];

	if (mostly_zero && page % 16)
		return 0;
	return generation ? (r->seed ^ page << 20 ^ generation) * 0x9e3779b97f4a7c15 | 1 : 0;
}

static void make_page(const struct region *r, size_t page, uint64_t *word)
{
	uint64_t x = page_seed(r, page);

	for (size_t i = 0; i < PAGE_WORDS; i++)
		word[i] = x = next_word(x, i);
}

static void check_page(const struct region *r, size_t page, const uint64_t *word,
		       const char *where)
{
	uint64_t x = page_seed(r, page);

	for (size_t i = 0; i < PAGE_WORDS; i++) {
		x = next_word(x, i);
		if (word[i] != x)
			errx(1, "task %d: %s page %zu %s: word %zu is %#llx, not %#llx", task,
			     kind_names[r->kind], page, where, i, (unsigned long long)word[i],
			     (unsigned long long)x);
	}
}

static bool has_file(const struct region *r)
{
	return r->kind == FILE_SHARED || r->kind == COW || r->kind == FEW;
}

static uint64_t *page_at(const struct region *r, size_t page)
{
	return r->at + page * PAGE_WORDS;
}

/* Through the mapping?  What it does not change of COW is written through the file. */
static bool written_by_mapping(const struct region *r, size_t page)
{
	switch (r->kind) {
	case COW: return page % 2;
	case FEW: return page % 16 == 0;
	default: return true;
	}
}

static void write_page_to_file(const struct region *r, size_t page)
{
	uint64_t buf[PAGE_WORDS];

	make_page(r, page, buf);
	if (pwrite(r->fd, buf, sizeof(buf), page * PAGE_SIZE) != sizeof(buf))
		err(1, "%s: cannot write a file", dir);
}

static void write_page(struct region *r, size_t page, uint32_t generation)
{
	if (written_by_mapping(r, page)) {
		r->generation[page] = generation;
		make_page(r, page, page_at(r, page));
		return;
	}
	if (r->kind == COW && page % 4 == 0) {
		r->generation[page] = generation;
		write_page_to_file(r, page);
	}
	check_page(r, page, page_at(r, page), "just written");	/* maps it */
}

static void write_units(struct region *r, long round)
{
	for (size_t page = 0; page < nr_pages; page++)
		if (!round || (page / unit + round) % 2 == 0)
			write_page(r, page, round + 2);
}

static void verify_units(const struct region *r, long round)
{
	for (size_t page = 0; page < nr_pages; page++)
		if ((page / unit + round) % 2)
			check_page(r, page, page_at(r, page), "in memory");
}

static void drop_units(struct region *r, long round)
{
	int advice = r->kind == SHMEM ? MADV_REMOVE : MADV_DONTNEED;

	if (has_file(r))
		return;
	for (size_t page = 0; page < nr_pages; page += unit) {
		size_t n = nr_pages - page < unit ? nr_pages - page : unit;

		if ((page / unit + round) % 4 != 1)
			continue;
		if (madvise(page_at(r, page), n * PAGE_SIZE, advice))
			err(1, "madvise %d", advice);
		memset(r->generation + page, 0, n * sizeof(*r->generation));
	}
}

static void be_nice(int nice)
{
	if (setpriority(PRIO_PROCESS, gettid(), nice))
		err(1, "setpriority");
}

/*
 * What no other CPU can write to needs no TLB flush, and then there is nothing
 * to batch: keep the address space in use.
 */
static void *stay(void *unused)
{
	while (!stop)
		sched_yield();
	return unused;
}

static void *be_busy(void *cpu)
{
	run_on((uintptr_t)cpu);
	while (!stop)
		;
	return NULL;
}

/* As stay(), and next to nobody else gets that CPU. */
static void *stay_alone(void *cpu)
{
	be_nice(-20);
	return be_busy(cpu);
}

/* Write what is there already: it dirties the page, and changes nothing. */
static void touch(const struct region *r, size_t page)
{
	volatile uint64_t *word = page_at(r, page);

	check_page(r, page, page_at(r, page), "during pageout");
	if (written_by_mapping(r, page))
		*word = *word;
}

static void touch_remote(const struct region *r, size_t page)
{
	uint64_t buf[PAGE_WORDS];
	struct iovec here = { buf, sizeof(buf) }, there = { page_at(r, page), sizeof(buf) };

	if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != sizeof(buf))
		err(1, "process_vm_readv");
	check_page(r, page, buf, "during pageout, by process_vm_readv(),");
	if (written_by_mapping(r, page) &&
	    process_vm_writev(getpid(), &here, 1, &there, 1, 0) != sizeof(buf))
		err(1, "process_vm_writev");
}

static void *fault(void *arg)
{
	size_t page = (uintptr_t)arg;

	if (unfair)
		run_on(1);
	for (size_t i = 0; !stop; i++, page = (page + 97) % nr_pages) {
		const struct region *r = &regions[i % nr_regions];

		if (remote)
			touch_remote(r, page);
		else
			touch(r, page);
	}
	return NULL;
}

static void pageout_madvise(void)
{
	struct iovec iov[REGIONS_MAX];
	size_t size = nr_pages * PAGE_SIZE;
	int self = syscall(SYS_pidfd_open, getpid(), 0);

	for (size_t i = 0; i < nr_regions; i++)
		iov[i] = (struct iovec){ regions[i].at, size };
	if (self < 0 || syscall(SYS_process_madvise, self, iov, nr_regions, MADV_PAGEOUT, 0) !=
			(long)(nr_regions * size))
		err(1, "process_madvise");
	close(self);
}

static void pageout_passes(void)
{
	int marker = open("/sys/kernel/tracing/trace_marker", O_WRONLY);

	if (marker < 0)
		err(1, "trace_marker");
	for (size_t i = 0; i < nr_regions; i++) {
		uintptr_t at = (uintptr_t)regions[i].at, end = at + nr_pages * PAGE_SIZE, next;

		for (; at < end; at = next) {
			next = (at | (HUGE_SIZE - 1)) + 1;
			if (next > end)
				next = end;
			if (madvise((void *)at, next - at, MADV_PAGEOUT) ||
			    write(marker, "pass", 4) != 4)
				err(1, "MADV_PAGEOUT, trace_marker");
		}
	}
	close(marker);
}

static void pageout_reclaim(void)
{
	char request[32];
	int len = snprintf(request, sizeof(request), "%ldM", mib * (long)nr_regions);
	int fd = open(how, O_WRONLY);

	/* EAGAIN: less than asked for, which may be all that there is */
	if (fd < 0 || (write(fd, request, len) < 0 && errno != EAGAIN))
		err(1, "%s", how);
	close(fd);
}

static void start(pthread_t *thread, void *(*function)(void *), uintptr_t arg)
{
	errno = pthread_create(thread, NULL, function, (void *)arg);
	if (errno)
		err(1, "pthread_create");
}

static void page_out(void)
{
	pthread_t threads[1 + THREADS_MAX + BUSY_THREADS];
	int n = 0;

	stop = false;
	start(&threads[n++], stay, 0);
	for (int i = 0; i < nr_faulters; i++)
		start(&threads[n++], fault, i * 31);
	if (unfair) {
		run_on(0);
		for (int i = 0; i < BUSY_THREADS; i++)
			start(&threads[n++], be_busy, 0);
		be_nice(19);
	}
	if (!strcmp(how, "madvise"))
		pageout_madvise();
	else if (!strcmp(how, "passes"))
		pageout_passes();
	else if (strcmp(how, "none"))
		pageout_reclaim();
	stop = true;
	if (unfair)
		be_nice(0);
	while (n)
		pthread_join(threads[--n], NULL);
}

static void *map(size_t size, int flags, int fd)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (at == MAP_FAILED)
		err(1, "mmap");
	return at;
}

/* A file as large as a region; for COW with contents, all of it clean. */
static void make_file(struct region *r)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/dirty-pages.XXXXXX", dir);
	r->fd = mkstemp(path);
	if (r->fd < 0 || unlink(path) || ftruncate(r->fd, nr_pages * PAGE_SIZE))
		err(1, "%s: cannot make a file", dir);
	if (r->kind == COW) {
		for (size_t page = 0; page < nr_pages; page++) {
			r->generation[page] = 1;
			write_page_to_file(r, page);
		}
	}
	if (fsync(r->fd))
		err(1, "%s: fsync", dir);
}

static void make_region(struct region *r)
{
	static const int flags[NR_KINDS] = {
		[ANON] = MAP_PRIVATE | MAP_ANONYMOUS,
		[THP] = MAP_PRIVATE | MAP_ANONYMOUS,
		[SHMEM] = MAP_SHARED | MAP_ANONYMOUS,
		[FILE_SHARED] = MAP_SHARED,
		[COW] = MAP_PRIVATE,
		[FEW] = MAP_PRIVATE,
	};
	size_t size = nr_pages * PAGE_SIZE;

	r->seed = (uint64_t)(task * REGIONS_MAX + (r - regions) + 1) << 44;
	r->generation = map(nr_pages * sizeof(*r->generation), MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (mlock(r->generation, nr_pages * sizeof(*r->generation)))
		err(1, "mlock");
	r->fd = -1;
	if (has_file(r))
		make_file(r);
	if (r->kind == THP) {
		r->at = map(size + HUGE_SIZE, flags[r->kind], -1);
		r->at = (void *)(((uintptr_t)r->at + HUGE_SIZE - 1) & -HUGE_SIZE);
	} else {
		r->at = map(size, flags[r->kind], r->fd);
	}
	if (madvise(r->at, size, r->kind == THP || r->kind == SHMEM ?
		    MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		err(1, "MADV_HUGEPAGE");
	/* no readahead: what is read and what is written lie side by side */
	if (r->kind == FEW && madvise(r->at, size, MADV_RANDOM))
		err(1, "MADV_RANDOM");
}

static void drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);

	if (fd < 0 || write(fd, "1", 1) != 1)
		err(1, "/proc/sys/vm/drop_caches");
	close(fd);
}

/* Read from the disk what a file holds. */
static void verify_file(struct region *r)
{
	uint64_t buf[PAGE_WORDS];

	if (munmap(r->at, nr_pages * PAGE_SIZE) || fsync(r->fd))
		err(1, "%s", dir);
	drop_caches();
	for (size_t page = 0; page < nr_pages; page++) {
		if (pread(r->fd, buf, sizeof(buf), page * PAGE_SIZE) != sizeof(buf))
			err(1, "%s: cannot read a file", dir);
		check_page(r, page, buf, "on disk");
	}
}

static void verify_all(void)
{
	for (size_t i = 0; i < nr_regions; i++) {
		verify_units(&regions[i], 0);
		verify_units(&regions[i], 1);
		if (regions[i].kind == FILE_SHARED)
			verify_file(&regions[i]);
	}
}

/* Until the task ends */
static void share(pid_t parent, int mapped)
{
	char byte = 0;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		errx(1, "the parent has gone");
	for (size_t i = 0; i < nr_regions; i++)
		for (size_t page = 0; page < nr_pages; page++)
			check_page(&regions[i], page, page_at(&regions[i], page), "shared");
	if (write(mapped, &byte, 1) != 1)
		err(1, "pipe");
	while (true)
		pause();
}

/* Returns when they have all pages mapped. */
static void start_sharers(void)
{
	pid_t parent = getpid(), pid;
	int mapped[2];
	char byte;

	if (pipe2(mapped, O_CLOEXEC))
		err(1, "pipe");
	for (long i = 0; i < nr_sharers; i++) {
		pid = fork();
		if (pid < 0)
			err(1, "fork");
		if (!pid)
			share(parent, mapped[1]);
	}
	close(mapped[1]);
	for (long i = 0; i < nr_sharers; i++)
		if (read(mapped[0], &byte, 1) != 1)
			errx(1, "a process that shares the pages has ended");
	close(mapped[0]);
}

static void unmap_every_other(const struct region *r)
{
	for (size_t page = 1; page < nr_pages; page += 2)
		if (madvise(page_at(r, page), PAGE_SIZE, MADV_DONTNEED))
			err(1, "MADV_DONTNEED");
}

static void wait_to_go_on(void)
{
	pthread_t thread;
	char byte;

	stop = false;
	if (busy)
		start(&thread, stay_alone, 1);
	if (read(go[0], &byte, 1))
		err(1, "pipe");
	stop = true;
	if (busy)
		pthread_join(thread, NULL);
}

static void run_task(void)
{
	char byte = 0;

	if (lock_rest && mlockall(MCL_CURRENT))
		err(1, "mlockall");
	for (size_t i = 0; i < nr_regions; i++)
		make_region(&regions[i]);
	for (long round = 0; round < nr_rounds; round++) {
		for (size_t i = 0; i < nr_regions; i++)
			write_units(&regions[i], round);
		page_out();
		for (size_t i = 0; i < nr_regions; i++)
			drop_units(&regions[i], round);
		page_out();
		for (size_t i = 0; i < nr_regions; i++)
			verify_units(&regions[i], round);
	}
	/* The other end is closed when all may go on. */
	close(go[1]);
	start_sharers();
	for (size_t i = 0; i < nr_regions && half_mapped; i++)
		unmap_every_other(&regions[i]);
	if (write(ready[1], &byte, 1) != 1)
		err(1, "pipe");
	close(ready[1]);
	if (wait_for_line)
		wait_to_go_on();
	if (spoil)
		regions[0].at[nr_pages / 2 * PAGE_WORDS] ^= 1;
	verify_all();
}

static void start_task(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (pid)
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		errx(1, "the parent has gone");
	run_task();
	exit(0);
}

/* Wait until all tasks are ready, or have ended. */
static void hold(void)
{
	char byte;

	close(ready[1]);
	for (long i = 0; i < nr_tasks; i++)
		if (read(ready[0], &byte, 1) != 1)
			return;
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) == 1 && byte != '\n')
		;
}

static int wait_for_tasks(void)
{
	int status, result = 0;

	while (wait(&status) > 0) {
		if (WIFEXITED(status) && WEXITSTATUS(status))
			result = WEXITSTATUS(status);
		else if (WIFSIGNALED(status) && !result)
			result = 128 + WTERMSIG(status);
	}
	return result;
}

static void add_region(const char *name)
{
	enum kind kind = 0;

	while (kind < NR_KINDS && strcmp(name, kind_names[kind]))
		kind++;
	if (kind == NR_KINDS || nr_regions == REGIONS_MAX)
		errx(2, "-k %s: unknown, or one too many", name);
	regions[nr_regions++].kind = kind;
}

/* For this process, and those that it starts */
static void bind_to_first_node(void)
{
	unsigned long nodes = 1;

	if (syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 8 * sizeof(nodes)))
		err(1, "set_mempolicy");
}

static void parse(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "t:k:d:s:r:u:xzo:f:vnmwbp:hle")) != -1) {
		switch (opt) {
		case 't': nr_tasks = number(optarg, 1, 64); break;
		case 'k': add_region(optarg); break;
		case 'd': dir = optarg; break;
		case 's': mib = number(optarg, 1, 1 << 20); break;
		case 'r': nr_rounds = number(optarg, 1, 1 << 30); break;
		case 'u': unit = number(optarg, 1, 1 << 20); break;
		case 'x': random_data = true; break;
		case 'z': mostly_zero = true; break;
		case 'o': how = optarg; break;
		case 'f': nr_faulters = number(optarg, 1, THREADS_MAX); break;
		case 'v': remote = true; break;
		case 'n': unfair = true; break;
		case 'm': bind_to_first_node(); break;
		case 'w': wait_for_line = true; break;
		case 'b': busy = true; break;
		case 'p': nr_sharers = number(optarg, 1, SHARERS_MAX); break;
		case 'h': half_mapped = true; break;
		case 'l': lock_rest = true; break;
		case 'e': spoil = true; break;
		default: exit(2);
		}
	}
	if (optind < argc)
		errx(2, "%s: unknown argument: see the head of dirty-pages.c", argv[optind]);
	if (!nr_regions)
		add_region("anon");
	for (size_t i = 0; i < nr_regions && (nr_sharers || half_mapped); i++)
		if (regions[i].kind != SHMEM && regions[i].kind != FILE_SHARED)
			errx(2, "-p, -h: pages of kind %s are not shared", kind_names[regions[i].kind]);
	nr_pages = ((size_t)mib << 20) / PAGE_SIZE;
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	if (pipe2(ready, O_CLOEXEC) || pipe2(go, O_CLOEXEC))
		err(1, "pipe");
	for (task = 0; task < nr_tasks; task++)
		start_task();
	if (wait_for_line)
		hold();
	close(go[1]);
	return wait_for_tasks();
}

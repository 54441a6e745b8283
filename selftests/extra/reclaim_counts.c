// SPDX-License-Identifier: GPL-2.0
/*
 * What reclaim says that it has done
 *
 * A folio that enters reclaim leaves it once, as reclaimed, activated or kept,
 * whatever was done to it in between: locked twice, split, put on a list again.
 * So the counts add up: of pages scanned, reclaimed, activated, written to swap
 * and read from it, of swap in use, and of what is left in the end.
 *
 * A child in a memory cgroup of its own has a region of dirty pages, and is
 * active on a second CPU, so that there is a TLB to be flushed for them.  The
 * parent, which is not in that cgroup, reclaims them, has the child read them
 * again, and then exit.  There is nobody else in the cgroup and nothing else
 * happens in it, so that all of its counts are exact, on any kernel.
 *
 * guest: -m 1024 --append brd.rd_size=65536 --append check_pages=1 --append init_on_free=1
 * fs: ext4
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "vm_util.h"
#include "reclaim_util.h"

/* Seconds after which a test has failed: a hang, not slowness */
#define TIMEOUT		120

/* Seconds for what the kernel does later; it sums up counts every two */
#define PATIENCE	60

/* Pages of the region: two PMDs, where pages have 4 KiB */
#define NR_PAGES	1024UL

/* Freed entries of swap that each CPU keeps for later, if there is free_swap_slot() */
#define SLOTS_CACHE	64

#define TRACING		"/sys/kernel/tracing/"
#define PASS_OF_RECLAIM	"events/vmscan/mm_vmscan_reclaim_pages/"

/* What the region is made of */
struct memory {
	bool shmem;
	unsigned int kib;	/* size of the folios; 0: of a page */
};

/* The trace events of the parent: sums over passes of reclaim, in pages */
struct trace {
	char path[128];		/* of the instance, or empty */
	unsigned long scanned;
	unsigned long reclaimed;
	unsigned long activated;
};

/* What must be as before */
struct system {
	unsigned long free_swap;
	long mlocked;
	long unevictable;
};

struct state {
	struct memory memory;
	char *region;
	struct reclaim_cgroup cgroup;
	struct setting settings[2];
	struct trace trace;
	struct system before;
	int cpus[2];
	int nr_cpus;
	pid_t child;
	int commands[2];	/* pipes: to the child, and its answers */
	int answers[2];
};

static size_t region_size(void)
{
	return NR_PAGES * psize();
}

static long cgroup_counter(struct state *s, const char *file, const char *name)
{
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", s->cgroup.path, file);
	return counter_of_file(path, name);
}

/* Of memory.stat; 0 if the kernel does not have it, as without zswap */
static long counter(struct state *s, const char *name)
{
	long value = cgroup_counter(s, "memory.stat", name);

	return value < 0 ? 0 : value;
}

/* Of WHAT by memory.reclaim; kernels without a word for that call it direct. */
static long by_request(struct state *s, const char *what)
{
	char name[32];

	snprintf(name, sizeof(name), "%s_proactive", what);
	if (cgroup_counter(s, "memory.stat", name) < 0)
		snprintf(name, sizeof(name), "%s_direct", what);
	return counter(s, name);
}

static long pages_in_swap(struct state *s)
{
	return cgroup_counter(s, "memory.swap.current", "") / psize();
}

/* Not every kernel has all that written() and read_back() need. */
static bool counts_swap(struct state *s)
{
	return cgroup_counter(s, "memory.stat", "pswpout") >= 0;
}

static long written(struct state *s)
{
	return counter(s, "pswpout") + counter(s, "zswpout") +
	       counter(s, "swpout_zero");
}

static long read_back(struct state *s)
{
	return counter(s, "pswpin") + counter(s, "zswpin") +
	       counter(s, "swpin_zero");
}

/* For counts that are summed up late: if they never fit, they are wrong. */
#define EXPECT_SOON(condition) do {					\
	int tries = PATIENCE * 20;					\
									\
	while (!(condition) && --tries)					\
		usleep(50000);						\
	EXPECT_NE(tries, 0)						\
		TH_LOG("never: %s", #condition);			\
} while (0)

static long cached_slots(void)
{
	char line[256];
	long cached = 0;
	FILE *file;

	file = fopen("/proc/kallsyms", "r");
	if (!file)
		return 0;
	while (!cached && fgets(line, sizeof(line), file))
		if (strstr(line, " free_swap_slot\n"))
			cached = SLOTS_CACHE * sysconf(_SC_NPROCESSORS_ONLN);
	fclose(file);
	return cached;
}

static struct system system_counts(void)
{
	struct sysinfo info;

	write_text(AT_FDCWD, "/proc/sys/vm/stat_refresh", "1");
	sysinfo(&info);
	return (struct system) {
		.free_swap = info.freeswap,
		.mlocked = vm_counter("nr_mlock"),
		.unevictable = vm_counter("nr_unevictable"),
	};
}

static bool is_filled(char *region)
{
	const unsigned int *words = (void *)region;

	for (size_t i = 0; i < NR_PAGES; i++)
		for (size_t k = 0; k < psize() / sizeof(*words); k++)
			if (*words++ != i + 1 + k)
				return false;
	return true;
}

static void *stay_active(void *cpu)
{
	pin_to_cpu(*(int *)cpu);
	for (;;)
		;
	return NULL;
}

/* Has the region in memory, checks it when it is told to, then exits. */
static void child(struct state *s)
{
	char command, ok = 1;
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* in no cgroup yet: its stack is not to be counted */
	if (s->nr_cpus > 1 &&
	    pthread_create(&thread, NULL, stay_active, &s->cpus[1]))
		_exit(1);
	if (!write_text(s->cgroup.dir, "leaf/cgroup.procs", "0"))
		_exit(1);
	for (size_t i = 0; i < NR_PAGES; i++)
		fill_page(s->region + i * psize(), i + 1);
	while (write(s->answers[1], &ok, 1) == 1 &&
	       read(s->commands[0], &command, 1) == 1 && command)
		ok = is_filled(s->region);
	_exit(0);
}

static bool child_is_ready(struct state *s)
{
	char ok = 0;

	return read(s->answers[0], &ok, 1) == 1 && ok;
}

static bool child_reads_back(struct state *s)
{
	return write(s->commands[1], "r", 1) == 1 && child_is_ready(s);
}

static bool child_exits(struct state *s)
{
	int status;

	return write(s->commands[1], "", 1) == 1 &&
	       waitpid(s->child, &status, 0) == s->child && !status;
}

static char *map_region(struct state *s)
{
	size_t size = region_size();
	char *at = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
			MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	at += -(unsigned long)at % size;
	if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_FIXED |
		 (s->memory.shmem ? MAP_SHARED : MAP_PRIVATE), -1, 0) != at)
		return NULL;
	madvise(at, size, s->memory.kib ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return at;
}

FIXTURE(reclaim_counts)
{
	struct state state;
};

FIXTURE_VARIANT(reclaim_counts)
{
	struct memory memory;
};

FIXTURE_VARIANT_ADD(reclaim_counts, anon)
{
	.memory = { .kib = 0 },
};

FIXTURE_VARIANT_ADD(reclaim_counts, anon_64k)
{
	.memory = { .kib = 64 },
};

FIXTURE_VARIANT_ADD(reclaim_counts, anon_pmd)
{
	.memory = { .kib = PMD },
};

FIXTURE_VARIANT_ADD(reclaim_counts, shmem)
{
	.memory = { .shmem = true },
};

FIXTURE_VARIANT_ADD(reclaim_counts, shmem_pmd)
{
	.memory = { .shmem = true, .kib = PMD },
};

FIXTURE_SETUP(reclaim_counts)
{
	struct state *s = &self->state;
	pid_t pid;

	s->memory = variant->memory;
	if (!have_swap())
		SKIP(return, "needs swap");
	if (!s->memory.shmem && s->memory.kib == PMD &&
	    read_pmd_pagesize() > region_size() / 2)
		SKIP(return, "needs THP of half the region at most");
	make_cgroup(&s->cgroup, "reclaim_counts");
	if (s->cgroup.reclaim_fd < 0)
		SKIP(return, "needs root and memory cgroups (v2)");
	if (s->memory.kib &&
	    !want_folios(s->settings, s->memory.kib, s->memory.shmem))
		SKIP(return, "needs THP of that size");
	/* one CPU: no page is in the LRU batch of another */
	s->nr_cpus = take_cpus(s->cpus, ARRAY_SIZE(s->cpus));
	ASSERT_GE(s->nr_cpus, 1);
	pin_to_cpu(s->cpus[0]);

	s->region = map_region(s);
	ASSERT_NE(s->region, NULL);
	ASSERT_EQ(pipe(s->commands), 0);
	ASSERT_EQ(pipe(s->answers), 0);
	s->before = system_counts();
	pid = fork();
	if (!pid)
		child(s);
	ASSERT_GT(pid, 0);
	s->child = pid;
	ASSERT_TRUE(child_is_ready(s));
}

FIXTURE_TEARDOWN_PARENT(reclaim_counts)
{
	struct state *s = &self->state;

	EXPECT_TRUE(remove_cgroup(&s->cgroup));
	EXPECT_TRUE(restore_setting(&s->settings[1]));
	EXPECT_TRUE(restore_setting(&s->settings[0]));
	if (*s->trace.path)
		EXPECT_EQ(rmdir(s->trace.path), 0);
}

/* Pages by which free swap is not what it was */
static long swap_difference(struct state *s)
{
	return labs((long)(system_counts().free_swap - s->before.free_swap)) /
	       (long)psize();
}

/*
 * The child reads what was swapped out, as much as NR, once each, and it is
 * what it was; NR is -1 where nothing tells.  Then it exits, and nothing is left.
 */
static void finish(struct __test_metadata *_metadata, struct state *s, long nr)
{
	long cached = cached_slots();
	struct system now;

	/* each page that was reclaimed left its shadow, and is missed once */
	EXPECT_TRUE(child_reads_back(s));
	if (nr >= 0) {
		if (counts_swap(s))
			EXPECT_SOON(read_back(s) == nr);
		EXPECT_SOON(counter(s, "workingset_refault_anon") == nr);
		EXPECT_LE(counter(s, "workingset_activate_anon"), nr);
	}

	/* a folio that is not put back on an LRU is not freed, either */
	EXPECT_TRUE(child_exits(s));
	munmap(s->region, region_size());
	EXPECT_SOON(counter(s, "anon") == 0);
	EXPECT_SOON(counter(s, "shmem") == 0);
	EXPECT_SOON(counter(s, "swapcached") == 0);
	EXPECT_SOON(counter(s, "active_anon") + counter(s, "inactive_anon") == 0);
	EXPECT_SOON(pages_in_swap(s) <= cached);
	EXPECT_SOON(swap_difference(s) <= cached);
	EXPECT_SOON(vm_counter("nr_isolated_anon") == 0);
	EXPECT_SOON(vm_counter("nr_isolated_file") == 0);
	EXPECT_SOON(vm_counter("nr_writeback") == 0);
	now = system_counts();
	EXPECT_EQ(now.mlocked, s->before.mlocked);
	EXPECT_EQ(now.unevictable, s->before.unevictable);
}

/*
 * shrink_unmapped_folio(), pass->nr_reclaimed: each dirty page of the LRU is
 * written once and counted once when it is freed, after that.
 */
TEST_F_TIMEOUT(reclaim_counts, memcg, TIMEOUT)
{
	struct state *s = &self->state;
	long swapped;

	/* until there is no more, for what was under I/O is freed later */
	while (reclaim_cgroup(&s->cgroup, region_size() / 4, "max") &&
	       errno != EAGAIN)
		errno = 0;
	swapped = pages_in_swap(s);

	ksft_print_msg("%ld pages swapped out\n", swapped);
	if (swapped < (long)NR_PAGES / 2) {
		EXPECT_TRUE(child_exits(s));
		SKIP(return, "swap took too few pages");
	}
	if (counts_swap(s))
		EXPECT_SOON(written(s) == swapped);
	EXPECT_SOON(by_request(s, "pgsteal") == swapped);
	EXPECT_GE(by_request(s, "pgscan"), swapped);
	EXPECT_LE(counter(s, "pgactivate"),
		  by_request(s, "pgscan") - swapped);
	finish(_metadata, s, swapped);
}

static bool write_trace(struct trace *trace, const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", trace->path, name);
	return write_text(AT_FDCWD, path, text);
}

/*
 * Traces the reclaim that this process does by MADV_PAGEOUT.  By a filter, for
 * set_event_pid patches the scheduler's code, and some emulators lose a CPU that
 * is there: "Oops: int3" under QEMU's TCG before 8.1.
 */
static bool start_trace(struct trace *trace)
{
	char filter[32];

	snprintf(trace->path, sizeof(trace->path),
		 TRACING "instances/reclaim_counts.%d", getpid());
	if (mkdir(trace->path, 0755)) {
		*trace->path = '\0';
		return false;
	}
	snprintf(filter, sizeof(filter), "common_pid == %d", getpid());
	return write_trace(trace, PASS_OF_RECLAIM "filter", filter) &&
	       write_trace(trace, PASS_OF_RECLAIM "enable", "1");
}

static unsigned long field(const char *line, const char *name)
{
	const char *at = strstr(line, name);

	return at ? strtoul(at + strlen(name), NULL, 10) : 0;
}

static bool read_trace(struct trace *trace)
{
	char path[256], line[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/trace", trace->path);
	file = fopen(path, "r");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		if (!strstr(line, "mm_vmscan_reclaim_pages: "))
			continue;
		trace->scanned += field(line, " nr_scanned=");
		trace->reclaimed += field(line, " nr_reclaimed=");
		trace->activated += field(line, " nr_activate_anon=") +
				    field(line, " nr_activate_file=");
	}
	fclose(file);
	return true;
}

static bool page_out(struct state *s)
{
	struct iovec region = { s->region, region_size() };
	int pidfd = syscall(__NR_pidfd_open, s->child, 0);
	ssize_t done;

	done = syscall(__NR_process_madvise, pidfd, &region, 1, MADV_PAGEOUT, 0);
	close(pidfd);
	return done == (ssize_t)region.iov_len;
}

/* What the events say of the pages, of which that many are in swap */
static void check_trace(struct __test_metadata *_metadata, struct state *s,
			long swapped)
{
	struct trace *trace = &s->trace;
	long kept;

	ksft_print_msg("%lu pages scanned, %lu reclaimed, %lu activated, %ld in swap\n",
		       trace->scanned, trace->reclaimed, trace->activated,
		       swapped);
	/* each once, also if its folio was split and it passed again */
	EXPECT_EQ(trace->scanned, NR_PAGES);
	/* no swap: activated; kept only if it is written and I/O is not over */
	kept = NR_PAGES - trace->reclaimed - trace->activated;
	EXPECT_EQ(trace->reclaimed + kept, swapped);
	EXPECT_SOON(counter(s, "swapcached") / psize() == kept);
}

/*
 * MADV_PAGEOUT, and what must hold for it, whether there is swap or not.  A
 * kernel without the event does not tell what it scanned.
 */
static void trace_page_out(struct __test_metadata *_metadata, struct state *s)
{
	bool traced = !access(TRACING PASS_OF_RECLAIM, F_OK);
	long swapped;

	if (access(TRACING "events/vmscan", X_OK) ||
	    (traced && !start_trace(&s->trace))) {
		EXPECT_TRUE(child_exits(s));
		SKIP(return, "needs root and tracefs");
	}
	ASSERT_TRUE(page_out(s));
	ASSERT_TRUE(!traced || read_trace(&s->trace));
	swapped = pages_in_swap(s);
	if (swapped < (long)NR_PAGES / 4) {
		EXPECT_TRUE(child_exits(s));
		SKIP(return, "swap took too few pages");
	}

	if (traced)
		check_trace(_metadata, s, swapped);
	if (counts_swap(s))
		EXPECT_SOON(written(s) == swapped);
	EXPECT_SOON(counter(s, "pgactivate") == (long)NR_PAGES - swapped);
	finish(_metadata, s, traced ? (long)s->trace.reclaimed : -1);
}

/*
 * shrink_folio_list(), shrink_unmapped_folio(): a page is scanned, and
 * reclaimed, activated or kept, once in a pass.
 */
TEST_F_TIMEOUT(reclaim_counts, madvise, TIMEOUT)
{
	trace_page_out(_metadata, &self->state);
}

/*
 * shrink_folio_list(), and for shmem pageout(): scanned as a large folio,
 * split because there is no swap for it, and scanned again as parts; or
 * activated for lack of swap, and not counted as reclaimed.
 */
TEST_F_TIMEOUT(reclaim_counts, madvise_with_little_swap, TIMEOUT)
{
	struct state *s = &self->state;
	char limit[32];

	snprintf(limit, sizeof(limit), "%zu", region_size() / 4 * 3);
	ASSERT_TRUE(write_text(s->cgroup.dir, "memory.swap.max", limit));
	trace_page_out(_metadata, s);
}

TEST_HARNESS_MAIN

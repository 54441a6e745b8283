// SPDX-License-Identifier: GPL-2.0
/*
 * Reclaim and the TLB
 *
 * Reclaim clears the page table entries of a folio first and flushes the TLBs
 * of other CPUs later, so that one flush serves many folios.  In between, a CPU
 * may still write to the folio through its old TLB entry.  As long as it can,
 * the folio has to stay locked: nobody who takes the lock of a folio without
 * page table entries expects that it is still being written to.
 *
 * The tests have pages reclaimed on one CPU while threads on others use them,
 * and look for writes that got lost or ended up elsewhere.  They also count the
 * flushes.
 *
 * RECLAIM_TLB_ROUNDS in the environment is the number of rounds of a test; of a
 * race, that of rounds that have to catch reclaim in the act.
 *
 * guest: -m 1024 --append brd.rd_size=65536 --append check_pages=1 --append init_on_free=1
 * fs: ext4
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "vm_util.h"
#include "reclaim_util.h"

#define MAX_THREADS	64

#define FREED_PAGES	256
#define FREED_PASSES	200	/* at least, and ten times as many at most */
#define FREED_WORD	0x5a5a5a5a5a5a5a5aUL

/* Seconds after which a test has failed: a hang, not slowness */
#define TIMEOUT		600

/* Rounds of the test that has all pages written to by all CPUs */
#define DATA_ROUNDS	40

/* Rounds of a race in TIMEOUT, and tries for each round that catches reclaim */
#define RACE_ROUNDS	200
#define RACE_TRIES	4

#define REGION_PAGES	4096

/* Tries to have a quarter of them reclaimed; kswapd may be slow to start */
#define REGION_TRIES	40

/*
 * kswapd runs when less memory is free than a part of it, in 1/10000, and that
 * is raised to the maximum for a moment.  What is free beyond that is locked,
 * the last of it STEP by STEP; no more than MAX_LOCKED.  FREEABLE is there for
 * kswapd to find: it gives up if it finds nothing.
 */
#define WATERMARK_SCALE	"/proc/sys/vm/watermark_scale_factor"
#define MAX_SCALE	3000
#define MAX_LOCKED	(4UL << 30)
#define STEP		(128UL << 10)
#define MAX_STEPS	16
#define FREEABLE	(4UL << 20)

static unsigned long read_word(char *page)
{
	return __atomic_load_n((unsigned long *)page, __ATOMIC_RELAXED);
}

static void write_word(char *page, unsigned long value)
{
	__atomic_store_n((unsigned long *)page, value, __ATOMIC_RELAXED);
}

/* The rounds asked for, or DEFAULT_ROUNDS */
static int rounds_wanted(int default_rounds)
{
	const char *rounds = getenv("RECLAIM_TLB_ROUNDS");

	return rounds ? atoi(rounds) : default_rounds;
}

static int test_timeout(void)
{
	return TIMEOUT * (1 + rounds_wanted(0) / RACE_ROUNDS);
}

struct state;

/*
 * What has pages reclaimed that a thread races for.
 *
 * A pass of reclaim ends with a flush: the longer it takes after the page of
 * the race, the longer the TLB entry of that page may be stale.  MADV_PAGEOUT
 * takes all pages in one pass.  Other reclaim begins with passes over one page,
 * two, four, and so on: the page of the race is to be at the start of one over
 * 20 to 30 pages.
 *
 * For each page of a file, reclaim looks at all mappings of the file until it has
 * found those that have the page.  Others make a pass last longer than a disk
 * needs to write a page.
 */
struct driver {
	const char *(*setup)(struct state *s);	/* NULL, or why it cannot */
	void (*reclaim)(struct state *s);
	int rounds;		/* by default */
	int nr_pages;
	int race_page;
	int nr_mappings;	/* of the file, that have no pages */
	bool all_dirty;		/* pages of the file: else the one of the race */
};

enum writeback { NOT_WANTED, WANTED, DONE, FAILED };

/* A thread of a test that runs one on each CPU but the first */
struct worker {
	struct state *state;
	int nr;			/* runs on state->cpus[nr] */
	long errors;
};

struct state {
	char *region;		/* anonymous memory, aligned to its size */
	size_t nr_pages;
	int pagemap_fd;
	int cpus[MAX_THREADS];	/* the main thread runs on cpus[0] */
	int nr_cpus;
	pthread_t threads[MAX_THREADS];
	struct worker workers[MAX_THREADS];
	pthread_barrier_t barrier;
	atomic_bool stop;

	/* of the races */
	const struct driver *driver;
	int rounds;
	char *page;		/* at race_page of the region */
	int file_fd;
	atomic_int writeback;	/* of it: enum writeback */
	int uffd;		/* 0 if the pages are of a file */
	char *move_to;
	struct reclaim_cgroup cgroup;
	int scale;		/* what WATERMARK_SCALE was */
	char *freeable;		/* FREEABLE bytes */
	char *locked;		/* memory, of which */
	size_t locked_size;	/* so much is locked */

	/* of the racing thread */
	bool (*racer)(struct state *s);
	unsigned long value;	/* what the page must hold in the end */
	atomic_bool racing;	/* the page has been written to */
	atomic_bool finished;	/* and all else that the racer does is done */
	atomic_bool reclaimed;	/* reclaim is over */
	bool caught;		/* the page was seen without a PTE */
	bool lost;		/* a write to it is not there any more */
	long errors;
};

static char *map_anon(size_t size)
{
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	madvise(at, size, MADV_NOHUGEPAGE);
	return at;
}

/*
 * Takes the CPUs and NR_PAGES, a power of two, of address space.  Returns NULL,
 * or why it cannot.
 */
static const char *init_state(struct state *s, size_t nr_pages)
{
	size_t size = nr_pages * psize();
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return "cannot read the CPU affinity";
	for (int cpu = 0; cpu < CPU_SETSIZE && s->nr_cpus < MAX_THREADS; cpu++)
		if (CPU_ISSET(cpu, &set))
			s->cpus[s->nr_cpus++] = cpu;
	if (s->nr_cpus < 2)
		return "needs two CPUs";
	pin_to_cpu(s->cpus[0]);

	s->nr_pages = nr_pages;
	s->region = map_anon(2 * size);
	if (!s->region)
		return "cannot map memory";
	s->region += -(unsigned long)s->region % size;

	s->pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	return s->pagemap_fd < 0 ? "needs /proc/self/pagemap" : NULL;
}

FIXTURE(reclaim_tlb)
{
	struct state state;
};

FIXTURE_SETUP(reclaim_tlb)
{
	const char *reason = init_state(&self->state, REGION_PAGES);

	if (reason)
		SKIP(return, "%s", reason);
}

FIXTURE_TEARDOWN(reclaim_tlb)
{
	close(self->state.pagemap_fd);
}

static size_t swapped_pages(struct state *s)
{
	size_t nr = 0;

	for (size_t i = 0; i < s->nr_pages; i++)
		if (pagemap_get_entry(s->pagemap_fd,
				      s->region + i * psize()) & PM_SWAP)
			nr++;
	return nr;
}

/* Starts RUN on all CPUs but the first, and waits until all threads run. */
static bool start_workers(struct state *s, void *(*run)(void *))
{
	pthread_barrier_init(&s->barrier, NULL, s->nr_cpus);
	for (int i = 1; i < s->nr_cpus; i++) {
		s->workers[i] = (struct worker){ .state = s, .nr = i };
		if (pthread_create(&s->threads[i], NULL, run,
				   &s->workers[i]))
			return false;
	}
	pthread_barrier_wait(&s->barrier);
	return true;
}

/* Ends the threads and returns the sum of their errors. */
static long stop_workers(struct state *s)
{
	long errors = 0;

	atomic_store(&s->stop, true);
	for (int i = 1; i < s->nr_cpus; i++) {
		pthread_join(s->threads[i], NULL);
		errors += s->workers[i].errors;
	}
	return errors;
}

/* Keeps the address space active on a CPU, so that flushes must reach it. */
static void *spin(void *arg)
{
	struct worker *worker = arg;
	struct state *s = worker->state;

	pin_to_cpu(s->cpus[worker->nr]);
	pthread_barrier_wait(&s->barrier);
	while (!atomic_load(&s->stop))
		;
	return NULL;
}

/*
 * One flush has to do for many folios: a pass of reclaim over the 512 dirty
 * pages of a PMD must not interrupt the other CPUs for each of them.
 */
TEST_F_TIMEOUT(reclaim_tlb, anon_flushes_are_batched, TIMEOUT)
{
	struct state *s = &self->state;
	size_t swapped;
	long flushes;

	if (!have_swap())
		SKIP(return, "needs swap");
	if (vm_counter("nr_tlb_remote_flush") < 0)
		SKIP(return, "needs CONFIG_DEBUG_TLBFLUSH");

	ASSERT_TRUE(start_workers(s, spin));

	for (size_t i = 0; i < s->nr_pages; i++)
		fill_page(s->region + i * psize(), i);

	flushes = vm_counter("nr_tlb_remote_flush");
	ASSERT_EQ(madvise(s->region, s->nr_pages * psize(), MADV_PAGEOUT), 0);
	flushes = vm_counter("nr_tlb_remote_flush") - flushes;
	swapped = swapped_pages(s);
	stop_workers(s);

	ksft_print_msg("%ld flushes for %zu pages\n", flushes, swapped);
	if (swapped < s->nr_pages / 2)
		SKIP(return, "swap took too few pages");
	EXPECT_LE(flushes, (long)swapped / 64);
}

static bool frees_are_zeroed(void)
{
	char line[4096] = "";
	FILE *file = fopen("/proc/cmdline", "r");

	if (file) {
		if (!fgets(line, sizeof(line), file))
			*line = '\0';
		fclose(file);
	}
	return strstr(line, "init_on_free=1");
}

static void *read_pages(void *arg)
{
	struct worker *worker = arg;
	struct state *s = worker->state;

	pin_to_cpu(s->cpus[worker->nr]);
	pthread_barrier_wait(&s->barrier);
	for (size_t i = 0; !atomic_load(&s->stop); i = (i + 1) % FREED_PAGES)
		worker->errors += read_word(s->region + i * psize()) != FREED_WORD;
	return NULL;
}

static void fill_pages_to_free(struct state *s)
{
	for (size_t i = 0; i < FREED_PAGES; i++)
		write_word(s->region + i * psize(), FREED_WORD);
}

/* The workers read the pages, and so bring them back, while they are freed. */
static void free_pages_read(struct __test_metadata *_metadata, struct state *s)
{
	long errors, freed = 0;
	int pass = 0;

	ASSERT_TRUE(start_workers(s, read_pages));
	do {
		madvise(s->region, FREED_PAGES * psize(), MADV_PAGEOUT);
		for (size_t i = 0; i < FREED_PAGES; i++)
			freed += !(pagemap_get_entry(s->pagemap_fd,
						     s->region + i * psize()) &
				   PM_PRESENT);
	} while (++pass < FREED_PASSES ||
		 (freed < FREED_PAGES && pass < 10 * FREED_PASSES));
	errors = stop_workers(s);
	ksft_print_msg("%ld reads of freed pages, of %ld or more freed\n",
		       errors, freed);
	if (!errors && freed < FREED_PAGES)
		SKIP(return, "reclaim freed too few pages");
	EXPECT_EQ(errors, 0);
}

/*
 * A page that reclaim has freed belongs to somebody else.  The kernel zeroes it
 * as it frees it: nobody may see that through an entry of a TLB.
 */
TEST_F_TIMEOUT(reclaim_tlb, freed_pages_are_not_read, TIMEOUT)
{
	struct state *s = &self->state;
	size_t size = FREED_PAGES * psize();
	int fd;

	if (!frees_are_zeroed())
		SKIP(return, "needs init_on_free=1");
	fd = open(".", O_TMPFILE | O_RDWR, 0600);
	if (fd < 0)
		SKIP(return, "needs a file here");
	ASSERT_EQ(ftruncate(fd, size), 0);
	ASSERT_EQ(mmap(s->region, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED, fd, 0), s->region);
	fill_pages_to_free(s);
	ASSERT_EQ(fsync(fd), 0);
	free_pages_read(_metadata, s);
	close(fd);
}

/*
 * As freed_pages_are_not_read, of anonymous memory: its pages are dirty at
 * first, and written; then they are clean, for they are only read, and freed
 * with no I/O and no flush before it.
 */
TEST_F_TIMEOUT(reclaim_tlb, freed_anon_is_not_read, TIMEOUT)
{
	struct state *s = &self->state;

	if (!frees_are_zeroed())
		SKIP(return, "needs init_on_free=1");
	if (!have_swap())
		SKIP(return, "needs swap");
	fill_pages_to_free(s);
	free_pages_read(_metadata, s);
}

/*
 * Counts in a word of its own in each page, and remembers each count.  The
 * pages come in random order: reclaim keeps those that it sees in use.
 */
static void *count_in_pages(void *arg)
{
	struct worker *worker = arg;
	struct state *s = worker->state;
	unsigned long *expected;
	unsigned int seed = worker->nr;

	pin_to_cpu(s->cpus[worker->nr]);
	expected = calloc(s->nr_pages, sizeof(*expected));
	pthread_barrier_wait(&s->barrier);
	if (!expected) {
		worker->errors++;
		return NULL;
	}

	while (!atomic_load(&s->stop)) {
		size_t i = rand_r(&seed) % s->nr_pages;
		char *word = s->region + i * psize() +
			     worker->nr * sizeof(*expected);

		if (read_word(word) != expected[i])
			worker->errors++;
		write_word(word, ++expected[i]);
	}
	free(expected);
	return NULL;
}

/* No write of any CPU may get lost when its page is written out and read in. */
TEST_F_TIMEOUT(reclaim_tlb, anon_writes_survive, test_timeout())
{
	struct state *s = &self->state;
	int rounds = rounds_wanted(DATA_ROUNDS);
	long swapped, errors;

	if (!have_swap())
		SKIP(return, "needs swap");

	/* else the rounds could be over before the other CPUs came to most pages */
	for (size_t i = 0; i < s->nr_pages; i++)
		write_word(s->region + i * psize(), i + 1);
	ASSERT_TRUE(start_workers(s, count_in_pages));

	swapped = vm_counter("pswpout");
	for (int round = 0; round < rounds; round++) {
		ASSERT_EQ(madvise(s->region, s->nr_pages * psize(),
				  MADV_PAGEOUT), 0);
		/* the other CPUs bring pages back, half of them at least */
		while (swapped_pages(s) > s->nr_pages / 2)
			;
	}
	swapped = vm_counter("pswpout") - swapped;
	errors = stop_workers(s);

	ksft_print_msg("%ld pages swapped out\n", swapped);
	if (swapped < (long)s->nr_pages)
		SKIP(return, "swap took too few pages");
	EXPECT_EQ(errors, 0);
}

static const char *no_setup(struct state *s)
{
	return NULL;
}

static void reclaim_by_madvise(struct state *s)
{
	madvise(s->region, s->driver->nr_pages * psize(), MADV_PAGEOUT);
}

static const char *setup_memcg(struct state *s)
{
	enter_cgroup(&s->cgroup, "reclaim_tlb");
	return s->cgroup.reclaim_fd < 0 ?
		"needs the memory controller of cgroup v2" : NULL;
}

/* As much as makes reclaim come as far as the page of the race, and beyond */
static void reclaim_by_memcg(struct state *s)
{
	reclaim_cgroup(&s->cgroup, s->driver->nr_pages / 3 * psize(),
		       s->uffd ? "max" : "0");
}

static int get_watermarks(void)
{
	char scale[16];

	return read_file(WATERMARK_SCALE, scale, sizeof(scale)) ? atoi(scale) : 0;
}

static bool set_watermarks(int scale)
{
	char string[16];

	snprintf(string, sizeof(string), "%d", scale);
	return write_text(AT_FDCWD, WATERMARK_SCALE, string);
}

/*
 * Raises the watermarks and takes memory, FREEABLE that is easily freed and
 * then up to SIZE that is not, until kswapd has scanned NR_PAGES or the race is
 * over.  Returns whether either is so.
 */
static bool run_kswapd(struct state *s, long nr_pages, size_t size)
{
	long enough = vm_counter("pgscan_kswapd") + nr_pages;
	bool done = false;

	madvise(s->freeable, FREEABLE, MADV_DONTNEED);
	set_watermarks(MAX_SCALE);
	for (size_t taken = 0; taken < FREEABLE + size; taken += STEP) {
		done = atomic_load(&s->finished) ||
		       vm_counter("pgscan_kswapd") >= enough;
		if (done)
			break;
		if (taken < FREEABLE) {
			memset(s->freeable + taken, 1, STEP);
			if (!s->uffd)
				madvise(s->freeable + taken, STEP, MADV_FREE);
		} else {
			if (mlock(s->locked + s->locked_size, STEP))
				break;
			s->locked_size += STEP;
		}
		usleep(1);	/* for kswapd to run on this CPU */
	}
	set_watermarks(s->scale);
	return done;
}

static const char *setup_kswapd(struct state *s)
{
	struct sysinfo info;
	size_t free, all;

	sysinfo(&info);
	free = info.freeram * info.mem_unit / STEP * STEP;
	all = info.totalram * info.mem_unit / STEP * STEP;
	if (free > MAX_LOCKED)
		return "more memory is free than the test may lock";
	s->locked = map_anon(all);
	s->freeable = map_anon(FREEABLE);
	if (!s->locked || !s->freeable)
		return "cannot map memory";
	s->scale = get_watermarks();
	if (!s->scale || !set_watermarks(s->scale))
		return "cannot write to " WATERMARK_SCALE;

	if (free > all / 10000 * MAX_SCALE)
		s->locked_size = (free - all / 10000 * MAX_SCALE) / STEP * STEP;
	if (mlock(s->locked, s->locked_size))
		return "cannot lock memory";
	if (!run_kswapd(s, 1, all / 4))
		return "cannot make kswapd run";
	return NULL;
}

/*
 * As far as the page of the race, and beyond; twice, for it looks twice.  How
 * much is locked settles where kswapd just runs.
 */
static void reclaim_by_kswapd(struct state *s)
{
	size_t size = s->locked_size;

	if (run_kswapd(s, 2 * s->driver->nr_pages, MAX_STEPS * STEP))
		size -= size ? STEP : 0;
	else
		size += STEP;
	munlock(s->locked + size, s->locked_size - size);
	madvise(s->locked + size, s->locked_size - size, MADV_DONTNEED);
	s->locked_size = size;
}

FIXTURE(reclaim_race)
{
	struct state state;
};

FIXTURE_VARIANT(reclaim_race)
{
	struct driver driver;
};

FIXTURE_VARIANT_ADD(reclaim_race, madvise)
{
	.driver = {
		.setup = no_setup,
		.reclaim = reclaim_by_madvise,
		.rounds = RACE_ROUNDS,
		.nr_pages = 512,
		.nr_mappings = 200,
		.all_dirty = true,
	},
};

FIXTURE_VARIANT_ADD(reclaim_race, memcg)
{
	.driver = {
		.setup = setup_memcg,
		.reclaim = reclaim_by_memcg,
		.rounds = RACE_ROUNDS,
		.nr_pages = 96,
		.race_page = 24,
		.nr_mappings = 2000,
	},
};

FIXTURE_VARIANT_ADD(reclaim_race, kswapd)
{
	.driver = {
		.setup = setup_kswapd,
		.reclaim = reclaim_by_kswapd,
		.rounds = RACE_ROUNDS / 10,
		.nr_pages = 96,
		.race_page = 40,
		.nr_mappings = 2000,
	},
};

FIXTURE_SETUP(reclaim_race)
{
	struct state *s = &self->state;
	const char *reason;

	s->driver = &variant->driver;
	s->rounds = rounds_wanted(s->driver->rounds);
	reason = init_state(s, REGION_PAGES);
	if (!reason)
		reason = s->driver->setup(s);
	if (reason)
		SKIP(return, "%s", reason);

	/* Reclaim takes no notice of accesses to such memory. */
	madvise(s->region, s->nr_pages * psize(), MADV_RANDOM);
	s->page = s->region + s->driver->race_page * psize();
}

/* In the parent: the cgroup is empty by then, however the test ended. */
FIXTURE_TEARDOWN_PARENT(reclaim_race)
{
	remove_cgroup(&self->state.cgroup);
	if (self->state.scale)
		set_watermarks(self->state.scale);
}

static void new_anon_pages(struct state *s)
{
	madvise(s->region, s->nr_pages * psize(), MADV_DONTNEED);
	for (int i = 0; i < s->driver->nr_pages; i++)
		fill_page(s->region + i * psize(), i);
}

/*
 * As anon_flushes_are_batched, for passes over what the LRU hands over: fewer
 * pages at first, and 32 or so then.
 */
TEST_F_TIMEOUT(reclaim_race, flushes_are_batched, TIMEOUT)
{
	struct state *s = &self->state;
	struct driver driver = *s->driver;
	long swapped, flushes;

	if (!have_swap())
		SKIP(return, "needs swap");
	flushes = vm_counter("nr_tlb_remote_flush");
	if (flushes < 0)
		SKIP(return, "needs CONFIG_DEBUG_TLBFLUSH");

	driver.nr_pages = REGION_PAGES;
	s->driver = &driver;
	s->uffd = -1;
	new_anon_pages(s);
	ASSERT_TRUE(start_workers(s, spin));
	swapped = swapped_out();
	flushes = vm_counter("nr_tlb_remote_flush");
	for (int try = 0; try < REGION_TRIES &&
	     swapped_out() - swapped < REGION_PAGES / 4; try++)
		s->driver->reclaim(s);
	flushes = vm_counter("nr_tlb_remote_flush") - flushes;
	swapped = swapped_out() - swapped;
	stop_workers(s);

	ksft_print_msg("%ld flushes for %ld pages\n", flushes, swapped);
	if (swapped < REGION_PAGES / 4)
		SKIP(return, "swap took too few pages");
	EXPECT_LE(flushes, swapped / 4);
}

/* The other side of race() */
static void *race_thread(void *arg)
{
	struct state *s = arg;

	pin_to_cpu(s->cpus[1]);
	for (;;) {
		pthread_barrier_wait(&s->barrier);
		if (atomic_load(&s->stop))
			return NULL;
		s->caught = s->racer(s);
		atomic_store(&s->finished, true);
		pthread_barrier_wait(&s->barrier);
	}
}

/*
 * A CPU that goes idle forgets what was flushed meanwhile.  While the racer
 * waits for a folio lock, this keeps its address space there, and so its TLB.
 */
static void *stay_active(void *arg)
{
	const struct sched_param param = { 0 };
	struct state *s = arg;

	pin_to_cpu(s->cpus[1]);
	if (sched_setscheduler(0, SCHED_IDLE, &param))
		return NULL;
	while (!atomic_load(&s->stop))
		;
	return NULL;
}

/*
 * Runs RACER on another CPU, round by round: it writes to the page until
 * reclaim has taken the PTE away, and then does what the test is about while
 * reclaim is busy with other pages.  It returns whether it caught reclaim in
 * the act.  PREPARE runs before each round.  CHECK runs after a round that
 * caught reclaim, and returns whether the page is as it must be; it may find
 * that the round does not count.  Returns how many rounds do, which is
 * s->rounds unless it takes too many tries.
 */
static int race(struct state *s, bool (*racer)(struct state *),
		void (*prepare)(struct state *), bool (*check)(struct state *))
{
	int caught = 0;

	s->racer = racer;
	pthread_barrier_init(&s->barrier, NULL, 2);
	if (pthread_create(&s->threads[1], NULL, race_thread, s) ||
	    pthread_create(&s->threads[2], NULL, stay_active, s))
		return 0;

	for (int try = 0; caught < s->rounds && try < RACE_TRIES * s->rounds;
	     try++) {
		prepare(s);
		atomic_store(&s->racing, false);
		atomic_store(&s->reclaimed, false);
		atomic_store(&s->finished, false);
		pthread_barrier_wait(&s->barrier);
		while (!atomic_load(&s->racing))
			;
		s->driver->reclaim(s);
		atomic_store(&s->reclaimed, true);
		pthread_barrier_wait(&s->barrier);
		if (s->caught && !check(s))
			s->errors++;
		if (s->caught)
			caught++;
	}

	atomic_store(&s->stop, true);
	pthread_barrier_wait(&s->barrier);
	pthread_join(s->threads[1], NULL);
	pthread_join(s->threads[2], NULL);
	return caught;
}

/* Writes until the page has no PTE, or reclaim is over. */
static bool write_until(struct state *s, bool swapped)
{
	while (!atomic_load(&s->reclaimed)) {
		uint64_t entry;

		write_word(s->page, ++s->value);
		atomic_store(&s->racing, true);
		entry = pagemap_get_entry(s->pagemap_fd, s->page);
		if (!(entry & PM_PRESENT) && (!swapped || (entry & PM_SWAP)))
			return true;
	}
	return false;
}

static void drop_file_pages(struct state *s)
{
	fsync(s->file_fd);
	madvise(s->region, s->nr_pages * psize(), MADV_DONTNEED);
	posix_fadvise(s->file_fd, 0, 0, POSIX_FADV_DONTNEED);
}

/*
 * Brings new pages in, in order.  MADV_PAGEOUT is to find all of them dirty;
 * elsewhere that would make reclaim wait for the flusher.
 */
static void new_file_pages(struct state *s)
{
	const struct driver *d = s->driver;

	must(s, !ftruncate(s->file_fd, 0));
	must(s, !ftruncate(s->file_fd, d->nr_pages * psize()));
	for (int i = 0; i < d->nr_pages; i++) {
		char *page = s->region + i * psize();

		if (page == s->page || d->all_dirty)
			write_word(page + sizeof(long), ++s->value);
		else
			FORCE_READ(*page);
	}
}

static bool write_back(struct state *s)
{
	return !sync_file_range(s->file_fd, s->page - s->region, psize(),
				SYNC_FILE_RANGE_WAIT_BEFORE |
				SYNC_FILE_RANGE_WRITE |
				SYNC_FILE_RANGE_WAIT_AFTER);
}

/*
 * Has the page written back by a thread that may sleep.  One that sleeps itself,
 * as it must for a disk, may find that its CPU has no stale TLB entry left: x86
 * looks for missed flushes when a thread comes back to a CPU.
 */
static bool have_written_back(struct state *s)
{
	if (s->nr_cpus < 3)
		return write_back(s);
	atomic_store(&s->writeback, WANTED);
	while (atomic_load(&s->writeback) == WANTED)
		;
	return atomic_load(&s->writeback) == DONE;
}

static void *writeback_thread(void *arg)
{
	struct state *s = arg;

	pin_to_cpu(s->cpus[2]);
	while (!atomic_load(&s->stop))
		if (atomic_load(&s->writeback) == WANTED)
			atomic_store(&s->writeback,
				     write_back(s) ? DONE : FAILED);
	return NULL;
}

static bool write_around_writeback(struct state *s)
{
	if (!write_until(s, false) || !have_written_back(s))
		return false;
	write_word(s->page, ++s->value);
	return true;
}

/* What is in the file, once the page cache has forgotten about it? */
static bool file_has_last_write(struct state *s)
{
	unsigned char resident;

	drop_file_pages(s);
	if (mincore(s->page, psize(), &resident) || (resident & 1)) {
		s->caught = false;
		return true;
	}
	return read_word(s->page) == s->value;
}

/*
 * Maps the file to the region, after the mappings that are to have no pages.
 * Of those that begin at the same page of a file, the oldest comes first.
 */
static bool map_file(struct state *s)
{
	const struct driver *d = s->driver;
	size_t size = d->nr_pages * psize();
	char *at = map_anon(d->nr_mappings * size);

	if (!at)
		return false;
	for (int i = 0; i < d->nr_mappings; i++, at += size)
		if (mmap(at, size, PROT_READ, MAP_SHARED | MAP_FIXED,
			 s->file_fd, 0) != at)
			return false;
	if (mmap(s->region, size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, s->file_fd, 0) != s->region)
		return false;
	return !madvise(s->region, s->nr_pages * psize(), MADV_RANDOM);
}

/*
 * A dirty file folio is unmapped by reclaim, but written out by the flusher.
 * The flusher looks for PTEs to find out who may write to it, not into TLBs.
 */
TEST_F_TIMEOUT(reclaim_race, file_writes_survive, test_timeout())
{
	struct state *s = &self->state;
	char name[] = "./reclaim_tlb.XXXXXX";
	struct statfs fs;
	int caught;

	s->file_fd = mkstemp(name);
	if (s->file_fd < 0)
		SKIP(return, "cannot create a file in the working directory");
	unlink(name);
	ASSERT_EQ(fstatfs(s->file_fd, &fs), 0);
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		SKIP(return, "the working directory is on a file system without writeback");

	/* small folios: no read-ahead */
	posix_fadvise(s->file_fd, 0, 0, POSIX_FADV_RANDOM);
	ASSERT_TRUE(map_file(s));
	if (s->nr_cpus > 2)
		ASSERT_EQ(pthread_create(&s->threads[3], NULL,
					 writeback_thread, s), 0);

	caught = race(s, write_around_writeback, new_file_pages,
		      file_has_last_write);
	if (s->nr_cpus > 2)
		pthread_join(s->threads[3], NULL);
	ksft_print_msg("%ld of %d last writes lost\n", s->errors, caught);
	close(s->file_fd);
	if (!s->errors && caught < s->rounds)
		SKIP(return, "caught reclaim too rarely");
	EXPECT_EQ(s->errors, 0);
}

/* Without sleeping, as long as the TLB has the page. */
static bool write_during_pageout(struct state *s)
{
	s->lost = false;
	if (!write_until(s, true))
		return false;
	while (!atomic_load(&s->reclaimed)) {
		s->lost |= read_word(s->page) != s->value;
		write_word(s->page, ++s->value);
	}
	return true;
}

static bool no_write_is_lost(struct state *s)
{
	return !s->lost && read_word(s->page) == s->value;
}

/*
 * A page must not be written out while a CPU still writes to it, and be it the
 * first of many: with MADV_PAGEOUT it is.
 */
TEST_F_TIMEOUT(reclaim_race, last_writes_survive, test_timeout())
{
	struct state *s = &self->state;
	int caught;

	if (!have_swap())
		SKIP(return, "needs swap");
	s->uffd = -1;
	caught = race(s, write_during_pageout, new_anon_pages, no_write_is_lost);
	ksft_print_msg("%ld of %d pages lost a write\n", s->errors, caught);
	if (!s->errors && caught < s->rounds)
		SKIP(return, "caught reclaim too rarely");
	EXPECT_EQ(s->errors, 0);
}

static bool write_around_move(struct state *s)
{
	struct uffdio_move move = {
		.dst = (unsigned long)s->move_to,
		.src = (unsigned long)s->page,
		.len = psize(),
	};
	int err, tries = 0;

	if (!write_until(s, true))
		return false;
	do {
		move.move = 0;
		err = ioctl(s->uffd, UFFDIO_MOVE, &move);
	} while (err && (errno == EAGAIN || errno == EBUSY) && ++tries < 1000);
	write_word(s->page, -1UL);
	return !err;
}

static bool moved_page_is_unchanged(struct state *s)
{
	return read_word(s->move_to) == s->value;
}

/*
 * UFFDIO_MOVE moves a page that is swapped out under the folio lock, without a
 * TLB flush.  A write to the old address must not reach the page after that.
 */
TEST_F_TIMEOUT(reclaim_race, moved_page_is_not_written, test_timeout())
{
	struct state *s = &self->state;
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MOVE };
	int caught;

	if (!have_swap())
		SKIP(return, "needs swap");
	s->uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (s->uffd < 0)
		SKIP(return, "needs userfaultfd");
	if (ioctl(s->uffd, UFFDIO_API, &api))
		SKIP(return, "needs UFFDIO_MOVE");

	s->move_to = s->region + s->driver->nr_pages * psize();
	ASSERT_EQ(uffd_register(s->uffd, s->move_to, psize(), true, false,
				false), 0);

	caught = race(s, write_around_move, new_anon_pages,
		      moved_page_is_unchanged);
	ksft_print_msg("%ld of %d moved pages written at the old address\n",
		       s->errors, caught);
	close(s->uffd);
	if (!s->errors && caught < s->rounds)
		SKIP(return, "caught reclaim too rarely");
	EXPECT_EQ(s->errors, 0);
}

TEST_HARNESS_MAIN

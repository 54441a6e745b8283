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
 * The tests run reclaim (MADV_PAGEOUT) on one CPU while threads on others use
 * the same pages, and look for writes that got lost or ended up elsewhere.
 * They also count the flushes.
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
#include <unistd.h>

#include "kselftest_harness.h"
#include "vm_util.h"

#define MAX_THREADS	64

/* Seconds after which a test has failed: a hang, not slowness */
#define TIMEOUT		600

/* Rounds of the test that has all pages written to by all CPUs */
#define DATA_ROUNDS	40

/* Rounds of the tests that race with reclaim, on one page each */
#define RACE_ROUNDS	200

/*
 * Pages that are reclaimed together with that page, and after it: the more,
 * the longer its TLB entry may be stale.
 */
#define RACE_PAGES	512

/* The counter NAME of /proc/vmstat, -1 if there is none. */
static long vm_counter(const char *name)
{
	char line[256], fmt[64];
	long value = -1;
	FILE *file;

	snprintf(fmt, sizeof(fmt), "%s %%ld", name);
	file = fopen("/proc/vmstat", "r");
	if (!file)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, fmt, &value) != 1)
			value = -1;
	fclose(file);
	return value;
}

static bool have_swap(void)
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

static void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		ksft_print_msg("cannot run on CPU %d: %s\n", cpu, strerror(errno));
}

static unsigned long read_word(char *page)
{
	return __atomic_load_n((unsigned long *)page, __ATOMIC_RELAXED);
}

static void write_word(char *page, unsigned long value)
{
	__atomic_store_n((unsigned long *)page, value, __ATOMIC_RELAXED);
}

/* Contents that zswap and zram cannot store as a single repeated word. */
static void fill_page(char *page, unsigned int seed)
{
	for (unsigned int i = 0; i < psize() / sizeof(seed); i++)
		((unsigned int *)page)[i] = seed + i;
}

struct state;

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

	/* of the racing thread */
	bool (*racer)(struct state *s);
	char *page;
	int file_fd;
	int uffd;
	char *move_to;
	unsigned long value;	/* what the page must hold in the end */
	bool caught;		/* the page was seen without a PTE */
	long errors;
};

FIXTURE(reclaim_tlb)
{
	struct state state;
};

FIXTURE_SETUP(reclaim_tlb)
{
	struct state *s = &self->state;
	cpu_set_t set;

	ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE && s->nr_cpus < MAX_THREADS; cpu++)
		if (CPU_ISSET(cpu, &set))
			s->cpus[s->nr_cpus++] = cpu;
	if (s->nr_cpus < 2)
		SKIP(return, "needs two CPUs");
	pin_to_cpu(s->cpus[0]);

	s->nr_pages = 8 * RACE_PAGES;
	s->region = mmap(NULL, 2 * s->nr_pages * psize(),
			 PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(s->region, MAP_FAILED);
	s->region += -(unsigned long)s->region %
			(s->nr_pages * psize());
	madvise(s->region, s->nr_pages * psize(), MADV_NOHUGEPAGE);

	s->pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(s->pagemap_fd, 0);
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
TEST_F_TIMEOUT(reclaim_tlb, anon_writes_survive, TIMEOUT)
{
	struct state *s = &self->state;
	long swapped, errors;

	if (!have_swap())
		SKIP(return, "needs swap");

	ASSERT_TRUE(start_workers(s, count_in_pages));

	swapped = vm_counter("pswpout");
	for (int round = 0; round < DATA_ROUNDS; round++) {
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
		pthread_barrier_wait(&s->barrier);
	}
}

/*
 * Runs RACER on another CPU, round by round: it writes to the first page until
 * reclaim has taken the PTE away, and then does what the test is about while
 * reclaim is busy with the other pages.  It returns whether it caught reclaim
 * in the act.  PREPARE runs before each round, CHECK after it with the page as
 * it is now.  Returns how many rounds caught reclaim.
 */
static int race(struct state *s, bool (*racer)(struct state *),
		void (*prepare)(struct state *), bool (*check)(struct state *))
{
	int caught = 0;

	s->racer = racer;
	pthread_barrier_init(&s->barrier, NULL, 2);
	if (pthread_create(&s->threads[1], NULL, race_thread, s))
		return 0;

	for (int round = 0; round < RACE_ROUNDS; round++) {
		prepare(s);
		pthread_barrier_wait(&s->barrier);
		madvise(s->page, RACE_PAGES * psize(), MADV_PAGEOUT);
		pthread_barrier_wait(&s->barrier);
		if (!s->caught)
			continue;
		caught++;
		if (!check(s))
			s->errors++;
	}

	atomic_store(&s->stop, true);
	pthread_barrier_wait(&s->barrier);
	pthread_join(s->threads[1], NULL);
	return caught;
}

/* Writes until the page has no PTE, but not longer than reclaim may need. */
static bool write_until(struct state *s, bool swapped)
{
	for (int i = 0; i < 100000; i++) {
		uint64_t entry;

		write_word(s->page, ++s->value);
		entry = pagemap_get_entry(s->pagemap_fd, s->page);
		if (!(entry & PM_PRESENT) && (!swapped || (entry & PM_SWAP)))
			return true;
	}
	return false;
}

static void dirty_file_pages(struct state *s)
{
	for (int i = 0; i < RACE_PAGES; i++)
		write_word(s->page + i * psize() + sizeof(long), ++s->value);
}

static bool write_around_writeback(struct state *s)
{
	if (!write_until(s, false) ||
	    sync_file_range(s->file_fd, 0, psize(),
			    SYNC_FILE_RANGE_WAIT_BEFORE |
			    SYNC_FILE_RANGE_WRITE |
			    SYNC_FILE_RANGE_WAIT_AFTER))
		return false;
	write_word(s->page, ++s->value);
	return true;
}

/* What is in the file, once the page cache has forgotten about it? */
static bool file_has_last_write(struct state *s)
{
	size_t size = RACE_PAGES * psize();
	unsigned char resident;

	fsync(s->file_fd);
	madvise(s->page, size, MADV_DONTNEED);
	posix_fadvise(s->file_fd, 0, size, POSIX_FADV_DONTNEED);
	if (mincore(s->page, psize(), &resident) || (resident & 1)) {
		s->caught = false;
		return true;
	}
	return read_word(s->page) == s->value;
}

/*
 * A dirty file folio is unmapped by reclaim, but written out by the flusher.
 * The flusher looks for PTEs to find out who may write to it, not into TLBs.
 */
TEST_F_TIMEOUT(reclaim_tlb, file_writes_survive, TIMEOUT)
{
	struct state *s = &self->state;
	char name[] = "./reclaim_tlb.XXXXXX";
	struct statfs fs;
	char *page;
	int caught;

	s->file_fd = mkstemp(name);
	if (s->file_fd < 0)
		SKIP(return, "cannot create a file in the working directory");
	unlink(name);
	ASSERT_EQ(fstatfs(s->file_fd, &fs), 0);
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		SKIP(return, "the working directory is on a file system without writeback");

	/* small folios: written page by page, and no read-ahead */
	posix_fadvise(s->file_fd, 0, 0, POSIX_FADV_RANDOM);
	page = calloc(1, psize());
	for (int i = 0; i < RACE_PAGES; i++)
		ASSERT_EQ(write(s->file_fd, page, psize()), psize());
	free(page);
	ASSERT_EQ(fsync(s->file_fd), 0);

	s->page = mmap(s->region, RACE_PAGES * psize(),
		       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		       s->file_fd, 0);
	ASSERT_EQ(s->page, s->region);

	caught = race(s, write_around_writeback, dirty_file_pages,
		      file_has_last_write);
	ksft_print_msg("%ld of %d last writes lost\n", s->errors, caught);
	close(s->file_fd);
	if (caught < RACE_ROUNDS / 4)
		SKIP(return, "caught reclaim too rarely");
	EXPECT_EQ(s->errors, 0);
}

static void new_anon_pages(struct state *s)
{
	size_t size = RACE_PAGES * psize();

	madvise(s->page, size, MADV_DONTNEED);
	madvise(s->move_to, psize(), MADV_DONTNEED);
	for (int i = 0; i < RACE_PAGES; i++)
		fill_page(s->page + i * psize(), i);
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
TEST_F_TIMEOUT(reclaim_tlb, moved_page_is_not_written, TIMEOUT)
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

	s->page = s->region;
	s->move_to = s->region + RACE_PAGES * psize();
	ASSERT_EQ(uffd_register(s->uffd, s->move_to, psize(), true, false,
				false), 0);

	caught = race(s, write_around_move, new_anon_pages,
		      moved_page_is_unchanged);
	ksft_print_msg("%ld of %d moved pages written at the old address\n",
		       s->errors, caught);
	close(s->uffd);
	if (caught < RACE_ROUNDS / 4)
		SKIP(return, "caught reclaim too rarely");
	EXPECT_EQ(s->errors, 0);
}

TEST_HARNESS_MAIN

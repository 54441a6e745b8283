// SPDX-License-Identifier: GPL-2.0
/*
 * Reclaim of dirty pages that are mapped MAP_SHARED
 *
 * Reclaim clears the page table entry of a dirty file page and unlocks the
 * page, for the flusher to write it.  No CPU may have it in its TLB by then:
 * what is stored through a stale entry after the flusher has written the page
 * is lost, since the page is clean.
 *
 * One thread has pages reclaimed.  Another stores to one of them until pagemap
 * shows it unmapped, has it written back, and stores once more: this round has
 * caught reclaim.  Then the page is dropped and read back.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/vfs.h>

#include "kselftest_harness.h"
#include "vm_util.h"
#include "cgroup_util.h"

#define TIMEOUT		300	/* seconds: a hang, not slowness */
#define ROUNDS		100	/* that have to catch reclaim */

/*
 * Reclaim looks for each page in all mappings of the file.  These have no
 * pages, but they make a pass last longer than a device takes to write one.
 */
#define NR_MAPPINGS	2000

FIXTURE(reclaim_file)
{
	char cgroup[PATH_MAX];
	cpu_set_t cpus;
	int fd, pagemap_fd, reclaim_fd;
	char *region;
	unsigned long *word;	/* that is stored to, in one of the pages */
	unsigned long value;	/* that was stored last */
	pthread_barrier_t barrier;
	atomic_bool started, reclaimed, over;
	bool caught;
};

/*
 * A pass ends with a flush, so the page that is stored to comes well before its
 * end.  MADV_PAGEOUT takes all pages in one pass.  memory.reclaim begins with
 * short ones, and waits for the flusher if all pages are dirty.
 */
FIXTURE_VARIANT(reclaim_file)
{
	bool memcg;
	int nr_pages, page;
};

FIXTURE_VARIANT_ADD(reclaim_file, madvise)
{
	.nr_pages = 64,
};

FIXTURE_VARIANT_ADD(reclaim_file, memcg)
{
	.memcg = true,
	.nr_pages = 96,
	.page = 24,
};

/* To the NR-th CPU that the test may use.  Returns false if there is none. */
static bool pin_to_cpu(FIXTURE_DATA(reclaim_file) *self, int nr)
{
	cpu_set_t set;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &self->cpus) || nr-- > 0)
			continue;
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		return !sched_setaffinity(0, sizeof(set), &set);
	}
	return false;
}

/* Sets self->cgroup and self->reclaim_fd, if there is memory.reclaim. */
static bool enter_cgroup(FIXTURE_DATA(reclaim_file) *self)
{
	char root[PATH_MAX / 2];

	if (cg_find_unified_root(root, sizeof(root), NULL))
		return false;
	snprintf(self->cgroup, sizeof(self->cgroup), "%s/reclaim_file.%d", root,
		 getpid());
	if (cg_create(self->cgroup))
		return false;
	self->reclaim_fd = cg_open(self->cgroup, "memory.reclaim", O_WRONLY);
	return self->reclaim_fd >= 0 && !cg_enter_current(self->cgroup);
}

FIXTURE_SETUP(reclaim_file)
{
	size_t size = variant->nr_pages * psize();
	struct statfs fs;

	if (sched_getaffinity(0, sizeof(self->cpus), &self->cpus) ||
	    !pin_to_cpu(self, 1) || !pin_to_cpu(self, 0))
		SKIP(return, "needs two CPUs");
	self->pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	if (self->pagemap_fd < 0)
		SKIP(return, "needs /proc/self/pagemap");
	self->fd = open(".", O_TMPFILE | O_RDWR, 0600);
	if (self->fd < 0 || fstatfs(self->fd, &fs))
		SKIP(return, "cannot create a file in the working directory");
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == OVERLAYFS_SUPER_MAGIC)
		SKIP(return, "needs a file system that writes back by itself");
	if (variant->memcg && !enter_cgroup(self))
		SKIP(return, "needs memory.reclaim of cgroup v2");

	/* No read-ahead, and reclaim takes no notice of accesses. */
	posix_fadvise(self->fd, 0, 0, POSIX_FADV_RANDOM);
	for (int i = 0; i < NR_MAPPINGS; i++)
		ASSERT_NE(mmap(NULL, size, PROT_READ, MAP_SHARED, self->fd, 0),
			  MAP_FAILED);
	/* Made last, it is the last that reclaim comes to. */
	self->region = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    self->fd, 0);
	ASSERT_NE(self->region, MAP_FAILED);
	madvise(self->region, size, MADV_RANDOM);
	self->word = (unsigned long *)(self->region + variant->page * psize());
}

/* In the parent, as the cgroup has to be empty. */
FIXTURE_TEARDOWN_PARENT(reclaim_file)
{
	if (*self->cgroup)
		cg_destroy(self->cgroup);
}

static void store(FIXTURE_DATA(reclaim_file) *self)
{
	__atomic_store_n(self->word, ++self->value, __ATOMIC_RELAXED);
}

static void *store_around_writeback(void *arg)
{
	FIXTURE_DATA(reclaim_file) *self = arg;
	char *page = (char *)self->word;
	off_t at = page - self->region;

	pin_to_cpu(self, 1);
	while (pthread_barrier_wait(&self->barrier), !self->over) {
		bool mapped = true;

		while (mapped && !self->reclaimed) {
			store(self);
			self->started = true;
			mapped = pagemap_get_entry(self->pagemap_fd, page) &
				 PM_PRESENT;
		}
		self->caught = !mapped &&
			       !sync_file_range(self->fd, at, psize(),
						SYNC_FILE_RANGE_WRITE_AND_WAIT);
		if (self->caught)
			store(self);
		pthread_barrier_wait(&self->barrier);
	}
	return NULL;
}

/* While the other sleeps: a CPU that idles looks for flushes that it missed. */
static void *keep_cpu_busy(void *arg)
{
	FIXTURE_DATA(reclaim_file) *self = arg;
	struct sched_param param = {};

	pin_to_cpu(self, 1);
	sched_setscheduler(0, SCHED_IDLE, &param);
	while (!self->over)
		;
	return NULL;
}

static void reclaim(FIXTURE_DATA(reclaim_file) *self, int nr_pages)
{
	/* A third comes past the page; it fails if there is less to be had. */
	if (*self->cgroup)
		dprintf(self->reclaim_fd, "%d swappiness=0",
			nr_pages / 3 * psize());
	else
		madvise(self->region, nr_pages * psize(), MADV_PAGEOUT);
}

/* Is the last store in the file, once it is dropped from the page cache? */
static bool is_in_file(FIXTURE_DATA(reclaim_file) *self, size_t size)
{
	unsigned char resident;

	fsync(self->fd);
	madvise(self->region, size, MADV_DONTNEED);
	posix_fadvise(self->fd, 0, 0, POSIX_FADV_DONTNEED);
	if (mincore(self->word, psize(), &resident) || (resident & 1)) {
		self->caught = false;
		return true;
	}
	return *self->word == self->value;
}

TEST_F_TIMEOUT(reclaim_file, writes_survive, TIMEOUT)
{
	size_t size = variant->nr_pages * psize();
	int caught = 0, lost = 0;
	pthread_t threads[2];

	pthread_barrier_init(&self->barrier, NULL, 2);
	ASSERT_EQ(pthread_create(&threads[0], NULL, store_around_writeback,
				 self), 0);
	ASSERT_EQ(pthread_create(&threads[1], NULL, keep_cpu_busy, self), 0);
	for (int try = 0; caught < ROUNDS && try < 4 * ROUNDS; try++) {
		/* new pages, which an LRU takes in this order */
		if (variant->memcg)
			ASSERT_EQ(ftruncate(self->fd, 0), 0);
		ASSERT_EQ(ftruncate(self->fd, size), 0);
		for (int i = 0; i < variant->nr_pages; i++)
			if (!variant->memcg || i == variant->page)
				self->region[i * psize() + sizeof(long)] = 1;
			else
				FORCE_READ(self->region[i * psize()]);
		self->started = false;
		self->reclaimed = false;
		pthread_barrier_wait(&self->barrier);
		while (!self->started)
			;
		reclaim(self, variant->nr_pages);
		self->reclaimed = true;
		pthread_barrier_wait(&self->barrier);
		lost += !is_in_file(self, size);
		caught += self->caught;
	}
	self->over = true;
	pthread_barrier_wait(&self->barrier);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ksft_print_msg("%d of %d last writes lost\n", lost, caught);
	if (!lost && caught < ROUNDS)
		SKIP(return, "caught reclaim too rarely");
	EXPECT_EQ(lost, 0);
}

TEST_HARNESS_MAIN

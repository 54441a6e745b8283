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

struct race {
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

FIXTURE(reclaim_file)
{
	struct race race;
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
static bool pin_to_cpu(struct race *race, int nr)
{
	cpu_set_t set;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &race->cpus) || nr-- > 0)
			continue;
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		return !sched_setaffinity(0, sizeof(set), &set);
	}
	return false;
}

/* Sets cgroup and reclaim_fd, if there is memory.reclaim. */
static bool enter_cgroup(struct race *race)
{
	char root[PATH_MAX / 2];

	if (cg_find_unified_root(root, sizeof(root), NULL))
		return false;
	snprintf(race->cgroup, sizeof(race->cgroup), "%s/reclaim_file.%d", root,
		 getpid());
	if (cg_create(race->cgroup))
		return false;
	race->reclaim_fd = cg_open(race->cgroup, "memory.reclaim", O_WRONLY);
	return race->reclaim_fd >= 0 && !cg_enter_current(race->cgroup);
}

FIXTURE_SETUP(reclaim_file)
{
	size_t size = variant->nr_pages * psize();
	struct race *race = &self->race;
	struct statfs fs;

	if (sched_getaffinity(0, sizeof(race->cpus), &race->cpus) ||
	    !pin_to_cpu(race, 1) || !pin_to_cpu(race, 0))
		SKIP(return, "needs two CPUs");
	race->pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	race->fd = open(".", O_TMPFILE | O_RDWR, 0600);
	if (race->pagemap_fd < 0 || race->fd < 0 || fstatfs(race->fd, &fs))
		SKIP(return, "needs pagemap, and a file here");
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == OVERLAYFS_SUPER_MAGIC)
		SKIP(return, "needs a file system that writes back by itself");
	if (variant->memcg && !enter_cgroup(race))
		SKIP(return, "needs memory.reclaim of cgroup v2");
	/* No read-ahead, and reclaim takes no notice of accesses. */
	posix_fadvise(race->fd, 0, 0, POSIX_FADV_RANDOM);
	for (int i = 0; i < NR_MAPPINGS; i++)
		ASSERT_NE(mmap(NULL, size, PROT_READ, MAP_SHARED, race->fd, 0),
			  MAP_FAILED);
	/* Made last, it is the last that reclaim comes to. */
	race->region = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    race->fd, 0);
	ASSERT_NE(race->region, MAP_FAILED);
	madvise(race->region, size, MADV_RANDOM);
	race->word = (unsigned long *)(race->region + variant->page * psize());
}

FIXTURE_TEARDOWN_PARENT(reclaim_file)
{
	if (*self->race.cgroup)
		cg_destroy(self->race.cgroup);
}

static void store(struct race *race)
{
	__atomic_store_n(race->word, ++race->value, __ATOMIC_RELAXED);
}

static void *store_and_sync(void *arg)
{
	struct race *race = arg;
	char *page = (char *)race->word;
	off_t at = page - race->region;

	pin_to_cpu(race, 1);
	while (pthread_barrier_wait(&race->barrier), !race->over) {
		bool mapped = true;

		while (mapped && !race->reclaimed) {
			store(race);
			race->started = true;
			mapped = pagemap_get_entry(race->pagemap_fd, page) &
				 PM_PRESENT;
		}
		race->caught = !mapped &&
			       !sync_file_range(race->fd, at, psize(),
						SYNC_FILE_RANGE_WRITE_AND_WAIT);
		if (race->caught)
			store(race);
		pthread_barrier_wait(&race->barrier);
	}
	return NULL;
}

/* While the other sleeps: a CPU that idles looks for flushes that it missed. */
static void *keep_busy(void *arg)
{
	struct race *race = arg;
	struct sched_param param = {};

	pin_to_cpu(race, 1);
	sched_setscheduler(0, SCHED_IDLE, &param);
	while (!race->over)
		;
	return NULL;
}

static void reclaim(struct race *race, size_t size)
{
	/* A third comes past the page; an error: there was less. */
	if (*race->cgroup)
		dprintf(race->reclaim_fd, "%zu swappiness=0", size / 3);
	else
		madvise(race->region, size, MADV_PAGEOUT);
}

/* Is the last store in the file, once it is dropped from the page cache? */
static bool is_in_file(struct race *race, size_t size)
{
	unsigned char resident;

	fsync(race->fd);
	madvise(race->region, size, MADV_DONTNEED);
	posix_fadvise(race->fd, 0, 0, POSIX_FADV_DONTNEED);
	if (mincore(race->word, psize(), &resident) || (resident & 1)) {
		race->caught = false;
		return true;
	}
	return *race->word == race->value;
}

/* No store to a page is lost that reclaim is at. */
TEST_F_TIMEOUT(reclaim_file, writes_survive, TIMEOUT)
{
	size_t size = variant->nr_pages * psize();
	struct race *race = &self->race;
	int caught = 0, lost = 0;
	pthread_t threads[2];

	pthread_barrier_init(&race->barrier, NULL, 2);
	ASSERT_FALSE(pthread_create(&threads[0], NULL, store_and_sync, race) ||
		     pthread_create(&threads[1], NULL, keep_busy, race));
	for (int try = 0; caught < ROUNDS && try < 4 * ROUNDS; try++) {
		/* new pages, which an LRU takes in this order */
		if (variant->memcg)
			ASSERT_EQ(ftruncate(race->fd, 0), 0);
		ASSERT_EQ(ftruncate(race->fd, size), 0);
		for (int i = 0; i < variant->nr_pages; i++)
			if (!variant->memcg || i == variant->page)
				race->region[i * psize() + sizeof(long)] = 1;
			else
				FORCE_READ(race->region[i * psize()]);
		race->started = false;
		race->reclaimed = false;
		pthread_barrier_wait(&race->barrier);
		while (!race->started)
			;
		reclaim(race, size);
		race->reclaimed = true;
		pthread_barrier_wait(&race->barrier);
		lost += !is_in_file(race, size);
		caught += race->caught;
	}
	race->over = true;
	pthread_barrier_wait(&race->barrier);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ksft_print_msg("%d of %d last writes lost\n", lost, caught);
	if (!lost && caught < ROUNDS)
		SKIP(return, "caught reclaim too rarely");
	EXPECT_EQ(lost, 0);
}

TEST_HARNESS_MAIN

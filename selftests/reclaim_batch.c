// SPDX-License-Identifier: GPL-2.0
/*
 * Reclaim of dirty pages with one TLB flush for many
 *
 * Reclaim unmaps many dirty pages, keeps them locked, flushes the TLB once for
 * all, and unlocks and writes them then.  Another CPU may use each of them at
 * any time meanwhile, by the page table or by an entry of its TLB.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "kselftest_harness.h"
#include "vm_util.h"

#define TIMEOUT		300	/* seconds: a hang, not slowness */
#define NR_PAGES	2048
#define NR_PASSES	20	/* over all pages */
#define ROUNDS		100	/* that have to catch reclaim */
#define ROUND_PAGES	512	/* that MADV_PAGEOUT takes at once */
#define NR_TRIES	5	/* others flush, too */

struct batch {
	cpu_set_t cpus;
	int pagemap_fd, uffd;
	char *region;
	char *dst;		/* where the first page is moved to */
	int remove;		/* advice that drops a page and its contents */
	unsigned long value;	/* that was stored to the first page last */
	long nr_errors;
	pthread_barrier_t barrier;
	atomic_bool started, reclaimed, over;
	bool caught;
};

FIXTURE(reclaim_batch)
{
	struct batch batch;
};

FIXTURE_VARIANT(reclaim_batch)
{
	int flags, remove;
};

FIXTURE_VARIANT_ADD(reclaim_batch, anon)
{
	.flags = MAP_PRIVATE | MAP_ANONYMOUS,
	.remove = MADV_DONTNEED,
};

FIXTURE_VARIANT_ADD(reclaim_batch, shmem)
{
	.flags = MAP_SHARED | MAP_ANONYMOUS,
	.remove = MADV_REMOVE,
};

static unsigned long *word_of(struct batch *batch, size_t page)
{
	return (unsigned long *)(batch->region + page * psize());
}

static void store(unsigned long *word, unsigned long value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* To the NR-th CPU that the test may use.  Returns false if there is none. */
static bool pin_to_cpu(struct batch *batch, int nr)
{
	cpu_set_t set;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &batch->cpus) || nr-- > 0)
			continue;
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		return !sched_setaffinity(0, sizeof(set), &set);
	}
	return false;
}

static bool have_swap(void)
{
	FILE *file = fopen("/proc/swaps", "r");
	char line[256];
	int lines = 0;

	while (file && fgets(line, sizeof(line), file))
		lines++;
	if (file)
		fclose(file);
	return lines > 1;
}

/* The number after NAME in /proc/vmstat, or -1. */
static long vm_counter(const char *name)
{
	FILE *file = fopen("/proc/vmstat", "r");
	char line[256], found[128];
	long value, result = -1;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%127s %ld", found, &value) == 2 &&
		    !strcmp(found, name))
			result = value;
	if (file)
		fclose(file);
	return result;
}

/* Returns what is missing, or NULL. */
static const char *set_up(struct batch *batch, int flags)
{
	if (sched_getaffinity(0, sizeof(batch->cpus), &batch->cpus) ||
	    !pin_to_cpu(batch, 1) || !pin_to_cpu(batch, 0))
		return "needs two CPUs";
	if (!have_swap())
		return "needs swap";
	batch->pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	if (batch->pagemap_fd < 0)
		return "needs pagemap";
	batch->region = mmap(NULL, NR_PAGES * psize(), PROT_READ | PROT_WRITE,
			     flags, -1, 0);
	if (batch->region == MAP_FAILED)
		return "needs memory";
	madvise(batch->region, NR_PAGES * psize(), MADV_NOHUGEPAGE);
	return NULL;
}

FIXTURE_SETUP(reclaim_batch)
{
	const char *missing = set_up(&self->batch, variant->flags);

	if (missing)
		SKIP(return, "%s", missing);
	self->batch.remove = variant->remove;
}

FIXTURE_TEARDOWN(reclaim_batch)
{
}

FIXTURE(reclaim_batch_move)
{
	struct batch batch;
};

FIXTURE_SETUP(reclaim_batch_move)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_MOVE,
	};
	struct batch *batch = &self->batch;
	const char *missing = set_up(batch, MAP_PRIVATE | MAP_ANONYMOUS);

	if (missing)
		SKIP(return, "%s", missing);
	batch->uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (batch->uffd < 0 || ioctl(batch->uffd, UFFDIO_API, &api))
		SKIP(return, "needs UFFDIO_MOVE");
	batch->dst = batch->region + (NR_PAGES - 1) * psize();
	ASSERT_EQ(uffd_register(batch->uffd, batch->dst, psize(), true, false,
				false), 0);
}

FIXTURE_TEARDOWN(reclaim_batch_move)
{
}

static size_t nr_unmapped(struct batch *batch)
{
	size_t nr = 0;

	for (size_t i = 0; i < NR_PAGES; i++) {
		char *page = (char *)word_of(batch, i);
		uint64_t entry = pagemap_get_entry(batch->pagemap_fd, page);

		nr += !(entry & PM_PRESENT);
	}
	return nr;
}

static void page_out(struct batch *batch, size_t nr_pages)
{
	madvise(batch->region, nr_pages * psize(), MADV_PAGEOUT);
}

/* A CPU that idles looks for flushes that it missed, and is sent none. */
static void *keep_busy(void *arg)
{
	struct batch *batch = arg;
	struct sched_param param = {};

	pin_to_cpu(batch, 1);
	sched_setscheduler(0, SCHED_IDLE, &param);
	while (!batch->over)
		batch->started = true;
	return NULL;
}

/* The flushes of this machine while all pages, dirty, are paged out. */
static long count_flushes(struct batch *batch)
{
	long flushes;

	for (size_t i = 0; i < NR_PAGES; i++)
		store(word_of(batch, i), i);
	flushes = vm_counter("nr_tlb_remote_flush");
	page_out(batch, NR_PAGES);
	return vm_counter("nr_tlb_remote_flush") - flushes;
}

/* One flush does for many dirty pages. */
TEST_F_TIMEOUT(reclaim_batch, flushes, TIMEOUT)
{
	struct batch *batch = &self->batch;
	long flushes = NR_PAGES, unmapped = 0;
	pthread_t thread;

	if (vm_counter("nr_tlb_remote_flush") < 0)
		SKIP(return, "needs CONFIG_DEBUG_TLBFLUSH");
	ASSERT_FALSE(pthread_create(&thread, NULL, keep_busy, batch));
	while (!batch->started)
		;
	for (int i = 0; i < NR_TRIES && flushes > unmapped / 32; i++) {
		flushes = count_flushes(batch);
		unmapped = nr_unmapped(batch);
		ksft_print_msg("%ld flushes for %ld pages\n", flushes,
			       unmapped);
	}
	batch->over = true;
	pthread_join(thread, NULL);

	if (unmapped < NR_PAGES / 2)
		SKIP(return, "swap took too few pages");
	EXPECT_LE(flushes, unmapped / 32);
}

/* Uses all pages while they are paged out, and checks what they contain. */
static void use_pages(struct __test_metadata *_metadata, struct batch *batch,
		      void *(*user)(void *))
{
	pthread_t thread;

	ASSERT_FALSE(pthread_create(&thread, NULL, user, batch));
	while (!batch->started)
		;
	for (int i = 0; i < NR_PASSES; i++)
		page_out(batch, NR_PAGES);
	batch->over = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(batch->nr_errors, 0);
}

static void *count_in_pages(void *arg)
{
	static unsigned long counts[NR_PAGES];
	struct batch *batch = arg;

	pin_to_cpu(batch, 1);
	for (size_t i = 0; !batch->over; i = (i + 97) % NR_PAGES) {
		store(word_of(batch, i), *word_of(batch, i) + 1);
		counts[i]++;
		batch->started = true;
	}
	for (size_t i = 0; i < NR_PAGES; i++)
		batch->nr_errors += *word_of(batch, i) != counts[i];
	return NULL;
}

/* What is faulted in again before it is written keeps what is stored then. */
TEST_F_TIMEOUT(reclaim_batch, writes_survive, TIMEOUT)
{
	use_pages(_metadata, &self->batch, count_in_pages);
}

static void *remove_pages(void *arg)
{
	struct batch *batch = arg;

	pin_to_cpu(batch, 1);
	for (size_t i = 0; !batch->over; i = (i + 97) % NR_PAGES) {
		store(word_of(batch, i), 1);
		if (i % 8 == 0) {
			madvise(word_of(batch, i), psize(), batch->remove);
			batch->nr_errors += *word_of(batch, i) != 0;
		}
		batch->started = true;
	}
	return NULL;
}

/* What is removed before it is written does not come back. */
TEST_F_TIMEOUT(reclaim_batch, removed_pages_are_zero, TIMEOUT)
{
	use_pages(_metadata, &self->batch, remove_pages);
}

static bool move_page(struct batch *batch)
{
	struct uffdio_move move = {
		.dst = (unsigned long)batch->dst,
		.src = (unsigned long)batch->region,
		.len = psize(),
	};
	int err, tries = 0;

	do {
		move.move = 0;
		err = ioctl(batch->uffd, UFFDIO_MOVE, &move);
	} while (err && (errno == EAGAIN || errno == EBUSY) && ++tries < 1000);
	return !err;
}

static void *store_around_move(void *arg)
{
	struct batch *batch = arg;

	pin_to_cpu(batch, 1);
	while (pthread_barrier_wait(&batch->barrier), !batch->over) {
		bool swapped = false;

		while (!swapped && !batch->reclaimed) {
			store(word_of(batch, 0), ++batch->value);
			batch->started = true;
			swapped = pagemap_get_entry(batch->pagemap_fd,
						    batch->region) & PM_SWAP;
		}
		batch->caught = swapped && move_page(batch);
		if (batch->caught)
			store(word_of(batch, 0), -1UL);
		pthread_barrier_wait(&batch->barrier);
	}
	return NULL;
}

/*
 * UFFDIO_MOVE takes the folio lock, moves the swap entry, and does not flush.
 * Nothing that is stored to the old address after that may be at the new one.
 */
TEST_F_TIMEOUT(reclaim_batch_move, page_is_not_written, TIMEOUT)
{
	struct batch *batch = &self->batch;
	int caught = 0, written = 0;
	pthread_t threads[2];

	pthread_barrier_init(&batch->barrier, NULL, 2);
	ASSERT_FALSE(pthread_create(&threads[0], NULL, store_around_move,
				    batch));
	ASSERT_FALSE(pthread_create(&threads[1], NULL, keep_busy, batch));
	for (int try = 0; caught < ROUNDS && try < 3 * ROUNDS; try++) {
		madvise(batch->region, NR_PAGES * psize(), MADV_DONTNEED);
		for (size_t i = 0; i < ROUND_PAGES; i++)
			store(word_of(batch, i), i);
		batch->started = false;
		batch->reclaimed = false;
		pthread_barrier_wait(&batch->barrier);
		while (!batch->started)
			;
		page_out(batch, ROUND_PAGES);
		batch->reclaimed = true;
		pthread_barrier_wait(&batch->barrier);
		caught += batch->caught;
		written += batch->caught &&
			   *(unsigned long *)batch->dst != batch->value;
	}
	batch->over = true;
	pthread_barrier_wait(&batch->barrier);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ksft_print_msg("%d of %d moved pages written at the old address\n",
		       written, caught);
	if (!written && caught < ROUNDS)
		SKIP(return, "caught reclaim too rarely");
	EXPECT_EQ(written, 0);
}

TEST_HARNESS_MAIN

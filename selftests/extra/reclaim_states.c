// SPDX-License-Identifier: GPL-2.0
/*
 * What may happen to a folio while reclaim is at it
 *
 * Reclaim unmaps many dirty folios and keeps them locked, flushes the TLBs of
 * all CPUs once, unlocks the folios, and then locks them again, one by one, to
 * write them out.  So a folio waits twice: locked, until the flush ("unmapped"
 * below), and unlocked, until it is its turn to be written ("flushed").  In
 * either state it may be looked up in the swap cache or the page cache, and its
 * swap entry may be found in page tables.
 *
 * The first thread pages out a region, over and over again.  Threads on other
 * CPUs own the pages of the region among them.  A thread picks one of its
 * pages, preferably one that waits in the batch of reclaim, does the one thing
 * to it that the test is about, and checks what the page holds, or fills it
 * anew, or both, or neither.  It knows what must be in each of its pages: no
 * write may be lost, and no page may show what belongs to another.
 *
 * There are two ways to page out.  MADV_PAGEOUT has the pages of a whole PMD in
 * one batch, but holds mmap_lock.  memory.reclaim does without it, and has some
 * 32 folios in a batch.  Both are used in turn, but only the latter where the
 * other threads need mmap_lock for writing, and only the former without root
 * or memory cgroups.
 *
 * RECLAIM_STATES_ROUNDS in the environment is the number of rounds of a test;
 * tests of slow operations need four times as many.
 *
 * guest: -m 1024 --append brd.rd_size=65536 --append check_pages=1 --append init_on_free=1
 * fs: ext4
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "vm_util.h"
#include "reclaim_util.h"

#define MAX_CPUS	16

/* Seconds after which a test has failed: a hang, not slowness */
#define TIMEOUT		600

/* Times that the region is paged out, unless the environment says otherwise */
#define ROUNDS		10

/* Pages of the region: two PMDs, where pages have 4 KiB */
#define NR_PAGES	1024UL

/* Visits of the other threads to their pages, all taken together, in between */
#define VISITS		(NR_PAGES / 2)

/* Pages among which a thread looks for one that waits in the batch */
#define WINDOW		(NR_PAGES / 4)

#define NO_PAGE		NR_PAGES

/* Of /proc/kpageflags, as vm_util.h has them */
#define KPF_DIRTY	BIT_ULL(4)
#define KPF_LRU		BIT_ULL(5)
#define KPF_WRITEBACK	BIT_ULL(8)

/* What its owner knows of a page */
struct page {
	unsigned int seed;	/* of fill_page(), or 0: filled with zeroes */
	bool may_be_zero;	/* the kernel may have taken it away */
	bool written;		/* since the operation on it */
	bool locked;		/* by mlock() */
};

struct state;

/* A thread that owns every n-th page, and works on them on a CPU of its own */
struct worker {
	struct state *state;
	int nr;			/* 0 .. state->nr_workers - 1 */
	unsigned int random;	/* for rand_r() */
	size_t hole;		/* a page of its own that is not there */
	atomic_ulong visits;
	unsigned long done;	/* operations */
	unsigned long caught;	/* of which on a page in the batch */
	int pipe[2];
	char *buffer;		/* a page */
	unsigned int nr_poisoned;	/* pages that are lost to the machine */
	unsigned int nr_dirty;	/* of them, while reclaim had them */
};

/* Shared with the parent, which has to clean up. */
struct state {
	char *region;
	int pagemap_fd;
	struct page *pages;	/* not shared: a child keeps what it was born with */
	atomic_uint next_seed;
	atomic_ulong errors;

	int cpus[MAX_CPUS];	/* the first pages out, the others work */
	int nr_cpus;
	int nr_workers;
	struct worker workers[MAX_CPUS];
	pthread_t threads[MAX_CPUS];
	pthread_barrier_t barrier;
	atomic_bool stop;

	struct reclaim_cgroup cgroup;
	char swap[PATH_MAX];	/* to be on again after the test, if not empty */
	int swap_flags;

	/*
	 * What the test is about: does it to page I of the worker, and returns
	 * which page has these contents now, or -1 if it was not done.
	 * Without it, the page is just read and written.
	 */
	ssize_t (*operation)(struct worker *w, size_t i);
	unsigned int every;	/* do it to every n-th page in the batch */
	bool slow;		/* it takes as long as reclaim needs for a batch */
	bool locks_mm;		/* it takes mmap_lock for writing */
	int fd;			/* userfaultfd, or the file that is mapped */
	int kpageflags_fd;
	atomic_int calls;	/* of page_out(), and returns from it */

	/* of protect_page() */
	pthread_t scribbler;	/* 0 if there is none */
	atomic_size_t protected;
	atomic_ulong scribbled;
};

static char *address(struct state *s, size_t i)
{
	return s->region + i * psize();
}

static unsigned int roll(struct worker *w, unsigned int sides)
{
	return rand_r(&w->random) % sides;
}

/* A page of the worker, but not the hole. */
static size_t random_page(struct worker *w)
{
	size_t nr_workers = w->state->nr_workers, i;

	do {
		i = roll(w, NR_PAGES / nr_workers) * nr_workers + w->nr;
	} while (i == w->hole);
	return i;
}

/*
 * The first word of the contents CONTENTS of page I that is not what it must
 * be, -1 if there is none.  The end of a page belongs to scribble().
 */
static ssize_t wrong_word(struct state *s, size_t i, const char *contents)
{
	const unsigned int *words = (const void *)contents;
	const struct page *page = &s->pages[i];

	for (unsigned int k = 0; k < psize() / sizeof(*words) - 2; k++) {
		unsigned int word = FORCE_READ(words[k]);

		if (word != (page->seed ? page->seed + k : 0) &&
		    (word || !page->may_be_zero))
			return k;
	}
	return -1;
}

static void check_contents(struct state *s, size_t i, const char *contents)
{
	ssize_t k = wrong_word(s, i, contents);

	if (k >= 0)
		error(s, "page %zu, word %zd is %#x, filled with %#x", i, k,
		      ((const unsigned int *)contents)[k], s->pages[i].seed);
}

static void check(struct state *s, size_t i)
{
	check_contents(s, i, address(s, i));
}

static void fill(struct state *s, size_t i)
{
	unsigned int seed = atomic_fetch_add(&s->next_seed, 1);

	fill_page(address(s, i), seed);
	s->pages[i].seed = seed;
	s->pages[i].may_be_zero = false;
	s->pages[i].written = true;
}

static void fill_region(struct state *s)
{
	for (size_t i = 0; i < NR_PAGES; i++)
		if (!s->pages[i].seed)
			fill(s, i);
}

static uint64_t pagemap_bit(struct state *s, size_t i, uint64_t bit)
{
	return pagemap_get_entry(s->pagemap_fd, address(s, i)) & bit;
}

/*
 * Picks a page of the worker at random; if possible one that is in memory, but
 * not in the page tables.  It then waits in the batch, or is being written; or
 * reclaim kept it, or it was read ahead from swap or, if it is of a file, it
 * was not used since.
 */
static size_t pick_page(struct worker *w, bool *caught)
{
	size_t first = roll(w, NR_PAGES - WINDOW + 1);
	unsigned char resident[WINDOW] = { 0 };
	unsigned long long entries[WINDOW] = { 0 };
	struct state *s = w->state;

	/* either may fail behind a hole */
	pread(s->pagemap_fd, entries, sizeof(entries),
	      (unsigned long)address(s, first) / psize() * sizeof(*entries));
	mincore(address(s, first), WINDOW * psize(), resident);
	*caught = true;
	for (size_t k = 0; k < WINDOW; k++)
		if ((first + k) % s->nr_workers == w->nr &&
		    first + k != w->hole &&
		    !(entries[k] & PM_PRESENT) && (resident[k] & 1))
			return first + k;
	*caught = false;
	return random_page(w);
}

static void visit(struct worker *w)
{
	struct state *s = w->state;
	bool caught;
	size_t i;

	i = pick_page(w, &caught);
	if (caught ? !roll(w, s->every) : !s->slow && !roll(w, 64)) {
		ssize_t now = s->operation ? s->operation(w, i) : (ssize_t)i;

		if (now >= 0) {
			w->done++;
			w->caught += caught;
			i = now;
		}
	}
	if (roll(w, 2))
		check(s, i);
	if (roll(w, 2))
		fill(s, i);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct state *s = w->state;

	pin_to_cpu(s->cpus[1 + w->nr]);
	pthread_barrier_wait(&s->barrier);
	while (!atomic_load(&s->stop)) {
		visit(w);
		atomic_fetch_add(&w->visits, 1);
	}
	return NULL;
}

static bool start_workers(struct state *s)
{
	pthread_barrier_init(&s->barrier, NULL, s->nr_workers + 1);
	for (int nr = 0; nr < s->nr_workers; nr++) {
		struct worker *w = &s->workers[nr];

		w->state = s;
		w->nr = nr;
		w->random = nr;
		w->buffer = malloc(psize());
		if (!w->buffer || pipe2(w->pipe, O_NONBLOCK) ||
		    pthread_create(&s->threads[nr], NULL, work, w))
			return false;
	}
	pthread_barrier_wait(&s->barrier);
	return true;
}

static unsigned long visits(struct state *s)
{
	unsigned long visits = 0;

	for (int nr = 0; nr < s->nr_workers; nr++)
		visits += atomic_load(&s->workers[nr].visits);
	return visits;
}

static void page_out(struct state *s, int round)
{
	if (s->cgroup.reclaim_fd < 0 || (!s->locks_mm && round % 2)) {
		/* ENOMEM: there was a hole */
		if (madvise(s->region, NR_PAGES * psize(), MADV_PAGEOUT))
			must(s, errno == ENOMEM);
		return;
	}

	must(s, reclaim_cgroup(&s->cgroup, NR_PAGES / 4 * psize(), "max"));
}

/* The test, once the state says what it is about. */
static void run(struct __test_metadata *_metadata, struct state *s)
{
	const char *env = getenv("RECLAIM_STATES_ROUNDS");
	long enough = env ? atol(env) : ROUNDS;
	long rounds = enough, swapped;
	unsigned long done = 0, caught = 0;

	ASSERT_GT(enough, 0);
	if (s->locks_mm && s->cgroup.reclaim_fd < 0)
		SKIP(return, "needs root and memory cgroups (v2)");
	if (!s->nr_workers)
		s->nr_workers = s->nr_cpus - 1;
	if (!s->every)
		s->every = 1;
	if (s->slow)
		rounds *= 4;

	fill_region(s);
	ASSERT_TRUE(start_workers(s));

	swapped = swapped_out();
	for (long round = 0; round < rounds; round++) {
		unsigned long before;

		atomic_fetch_add(&s->calls, 1);
		page_out(s, round);
		atomic_fetch_add(&s->calls, 1);
		/* brings pages back */
		before = visits(s);
		while (visits(s) < before + VISITS)
			usleep(1000);
	}
	swapped = swapped_out() - swapped;

	atomic_store(&s->stop, true);
	for (int nr = 0; nr < s->nr_workers; nr++) {
		pthread_join(s->threads[nr], NULL);
		done += s->workers[nr].done;
		caught += s->workers[nr].caught;
	}

	ksft_print_msg("%ld pages swapped out; %lu operations, %lu in the batch\n",
		       swapped, done, caught);
	ASSERT_EQ(s->errors, 0);
	if (swapped < enough * (long)NR_PAGES / 16)
		SKIP(return, "swap took too few pages");
	if (caught < (unsigned long)enough)
		SKIP(return, "caught too few pages in the batch");
}

FIXTURE(reclaim_states)
{
	struct state state;
};

FIXTURE_SETUP(reclaim_states)
{
	struct state *s = &self->state;
	size_t size = NR_PAGES * psize();

	if (!have_swap())
		SKIP(return, "needs swap");
	s->nr_cpus = take_cpus(s->cpus, MAX_CPUS);
	if (s->nr_cpus < 2)
		SKIP(return, "needs two CPUs");
	pin_to_cpu(s->cpus[0]);
	enter_cgroup(&s->cgroup, "reclaim_states");

	ASSERT_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
	s->region = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(s->region, MAP_FAILED);
	s->region += -(unsigned long)s->region % size;

	s->pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(s->pagemap_fd, 0);
	s->pages = calloc(NR_PAGES, sizeof(*s->pages));
	ASSERT_NE(s->pages, NULL);
	s->next_seed = 1;
	for (int nr = 0; nr < MAX_CPUS; nr++)
		s->workers[nr].hole = NO_PAGE;
}

FIXTURE_TEARDOWN_PARENT(reclaim_states)
{
	struct state *s = &self->state;

	if (*s->swap && swapon(s->swap, s->swap_flags))
		EXPECT_EQ(errno, EBUSY);
	EXPECT_TRUE(remove_cgroup_child(&s->cgroup, "/gone"));
	EXPECT_TRUE(remove_cgroup(&s->cgroup));
}

/*
 * Unmapped: the fault finds the folio in the swap cache and waits for its lock.
 * Flushed: it maps the folio again; reclaim must see that (folio_mapped()) or,
 * while the fault goes on, not get the lock (folio_trylock()).
 */
TEST_F_TIMEOUT(reclaim_states, faulted_in, TIMEOUT)
{
	run(_metadata, &self->state);
}

/* The child checks pages while the parent writes to them. */
static ssize_t fork_child(struct worker *w, size_t i)
{
	struct state *s = w->state;
	size_t pages[8] = { i };
	int status;
	pid_t pid;

	for (unsigned int k = 1; k < ARRAY_SIZE(pages); k++)
		pages[k] = random_page(w);

	pid = fork();
	if (!pid) {
		int nr_wrong = 0;

		for (unsigned int k = 0; k < ARRAY_SIZE(pages); k++)
			nr_wrong += wrong_word(s, pages[k],
					       address(s, pages[k])) >= 0;
		/* not to be seen by the parent */
		for (unsigned int k = 0; k < ARRAY_SIZE(pages); k++)
			fill_page(address(s, pages[k]), 0);
		_exit(nr_wrong);
	}
	must(s, pid > 0);
	for (unsigned int k = 0; k < ARRAY_SIZE(pages); k++) {
		check(s, pages[k]);
		fill(s, pages[k]);
	}
	if (pid > 0) {
		must(s, waitpid(pid, &status, 0) == pid);
		if (status)
			error(s, "child ended with status %#x", status);
	}
	return i;
}

/*
 * Either state: a second page table gets the swap entry of the folio.  Both
 * may fault it in, and write to it: folio_mapped(), folio_trylock().  Once
 * written, the folio may be freed only if it is not mapped again and is clean
 * (__remove_mapping()), for the other process still needs it.
 */
TEST_F_TIMEOUT(reclaim_states, forked, TIMEOUT)
{
	struct state *s = &self->state;

	s->operation = fork_child;
	s->every = 4;
	s->locks_mm = true;
	run(_metadata, s);
}

/* Lets each worker have one page that is not there. */
static void make_holes(struct state *s)
{
	s->nr_workers = s->nr_cpus - 1;
	for (int nr = 0; nr < s->nr_workers; nr++) {
		s->workers[nr].hole = nr;
		s->pages[nr].seed = UINT_MAX;	/* do not fill it */
	}
}

static ssize_t fill_hole(struct worker *w, size_t from)
{
	size_t to = w->hole;

	w->state->pages[to] = w->state->pages[from];
	w->hole = from;
	return to;
}

static ssize_t mremap_page(struct worker *w, size_t i)
{
	struct state *s = w->state;
	char *to = address(s, w->hole);

	must(s, mremap(address(s, i), psize(), psize(),
		       MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	return fill_hole(w, i);
}

/*
 * Either state: the swap entry moves, the folio stays in the swap cache and is
 * written as if nothing had happened.  The new address must not be written to
 * through TLB entries of the old one.
 */
TEST_F_TIMEOUT(reclaim_states, mremapped, TIMEOUT)
{
	struct state *s = &self->state;

	make_holes(s);
	s->operation = mremap_page;
	s->locks_mm = true;
	run(_metadata, s);
}

static bool open_uffd(struct state *s, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	s->fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return s->fd >= 0 && !ioctl(s->fd, UFFDIO_API, &api);
}

static ssize_t uffd_move_page(struct worker *w, size_t i)
{
	struct state *s = w->state;
	struct uffdio_move move = {
		.dst = (unsigned long)address(s, w->hole),
		.src = (unsigned long)address(s, i),
		.len = psize(),
	};
	int err, tries = 0;

	do {
		move.move = 0;
		err = ioctl(s->fd, UFFDIO_MOVE, &move);
	} while (err && errno == EAGAIN && ++tries < 1000);
	if (err) {
		must(s, errno == EAGAIN || errno == EBUSY);
		return -1;
	}
	return fill_hole(w, i);
}

/*
 * Unmapped: the move waits for the folio lock.  Flushed: it takes the lock, and
 * changes the mapping and index of the folio, which reclaim therefore must read
 * after it has got the lock again, or it finds the lock taken
 * (folio_trylock()).  No TLB is flushed by the move.
 */
TEST_F_TIMEOUT(reclaim_states, uffd_moved, TIMEOUT)
{
	struct state *s = &self->state;

	if (!open_uffd(s, UFFD_FEATURE_MOVE))
		SKIP(return, "needs userfaultfd with UFFDIO_MOVE");
	make_holes(s);
	fill_region(s);
	ASSERT_EQ(uffd_register(s->fd, s->region, NR_PAGES * psize(), true,
				false, false), 0);
	s->operation = uffd_move_page;
	run(_metadata, s);
}

static ssize_t zap_page(struct worker *w, size_t i)
{
	struct state *s = w->state;

	must(s, !madvise(address(s, i), psize(), MADV_DONTNEED));
	s->pages[i] = (struct page){ .seed = 0 };
	return i;
}

/*
 * Unmapped: the swap entry is freed, the folio stays in the swap cache.
 * Flushed: so does it, or is taken out of there; then it has no mapping any
 * more, pageout() keeps it, and the caller of reclaim frees it.
 */
TEST_F_TIMEOUT(reclaim_states, zapped, TIMEOUT)
{
	struct state *s = &self->state;

	s->operation = zap_page;
	run(_metadata, s);
}

static ssize_t free_page_lazily(struct worker *w, size_t i)
{
	struct state *s = w->state;

	must(s, !madvise(address(s, i), psize(), MADV_FREE));
	s->pages[i].may_be_zero = true;
	return i;
}

/*
 * As zapped, if the page has no page table entry.  If it was faulted in again
 * it becomes clean and may be freed without being written, in which case it
 * must not be if it was written to after MADV_FREE.
 */
TEST_F_TIMEOUT(reclaim_states, lazily_freed, TIMEOUT)
{
	struct state *s = &self->state;

	s->operation = free_page_lazily;
	run(_metadata, s);
}

static ssize_t unmap_page(struct worker *w, size_t i)
{
	struct state *s = w->state;
	char *page = address(s, i);

	must(s, !munmap(page, psize()));
	must(s, mmap(page, psize(), PROT_READ | PROT_WRITE, MAP_PRIVATE |
		     MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == page);
	s->pages[i] = (struct page){ .seed = 0 };
	return i;
}

/* As zapped, and what rmap has walked through is gone, too. */
TEST_F_TIMEOUT(reclaim_states, unmapped, TIMEOUT)
{
	struct state *s = &self->state;

	s->operation = unmap_page;
	s->locks_mm = true;
	run(_metadata, s);
}

/*
 * Keeps writing to the end of pages: to the page that is protected now, if any,
 * else at random, so that this CPU has TLB entries.
 */
static void *scribble(void *arg)
{
	struct state *s = arg;
	unsigned int random = 0;

	pin_to_cpu(s->cpus[s->nr_cpus - 1]);
	while (!atomic_load(&s->stop)) {
		size_t i = atomic_load(&s->protected);
		char *word;

		if (i == NO_PAGE)
			i = rand_r(&random) % NR_PAGES;
		word = address(s, i + 1) - sizeof(long);
		if (syscall(__NR_getrandom, word, sizeof(long), 0) < 0)
			must(s, errno == EFAULT);
		atomic_fetch_add(&s->scribbled, 1);
	}
	return NULL;
}

static ssize_t protect_page(struct worker *w, size_t i)
{
	struct state *s = w->state;
	unsigned long *word = (void *)(address(s, i + 1) - sizeof(*word));
	unsigned long value, scribbled;

	must(s, !mprotect(address(s, i), psize(), PROT_READ));
	value = FORCE_READ(*word);
	check(s, i);
	atomic_store(&s->protected, i);
	/* the second write from now on has seen which page it is */
	scribbled = atomic_load(&s->scribbled);
	while (s->scribbler && atomic_load(&s->scribbled) < scribbled + 2)
		;
	if (FORCE_READ(*word) != value)
		error(s, "page %zu was written to while it was read-only", i);
	atomic_store(&s->protected, NO_PAGE);
	must(s, !mprotect(address(s, i), psize(), PROT_READ | PROT_WRITE));
	return i;
}

/*
 * Unmapped: there is nothing to protect in the page table, but other CPUs may
 * still have a writable TLB entry.  With three CPUs or more, one of them keeps
 * writing to the pages.
 */
TEST_F_TIMEOUT(reclaim_states, protected, TIMEOUT)
{
	struct state *s = &self->state;

	s->nr_workers = 1;
	s->operation = protect_page;
	s->locks_mm = true;
	s->protected = NO_PAGE;
	if (s->nr_cpus > 2)
		ASSERT_EQ(pthread_create(&s->scribbler, NULL, scribble, s), 0);
	run(_metadata, s);
	atomic_store(&s->stop, true);
	if (s->scribbler)
		pthread_join(s->scribbler, NULL);
}

static ssize_t mlock_page(struct worker *w, size_t i)
{
	struct state *s = w->state;
	char *page = address(s, i);

	if (s->pages[i].locked && !pagemap_bit(s, i, PM_PRESENT))
		error(s, "page %zu is not there, in spite of mlock()", i);
	s->pages[i].locked = false;
	switch (roll(w, 6)) {
	case 0:
		must(s, !mlock(page, psize()));
		s->pages[i].locked = true;
		break;
	case 1:
		must(s, !mlock2(page, psize(), MLOCK_ONFAULT));
		break;
	default:
		must(s, !munlock(page, psize()));
	}
	return i;
}

/*
 * Flushed: the folio is faulted in again and mlocked, so that it is not to be
 * written (folio_mapped()).
 */
TEST_F_TIMEOUT(reclaim_states, mlocked, TIMEOUT)
{
	struct state *s = &self->state;

	s->operation = mlock_page;
	s->locks_mm = true;
	run(_metadata, s);
}

/* Lets reclaim come along. */
static void check_others(struct worker *w)
{
	for (int k = 0; k < 4; k++)
		check(w->state, random_page(w));
}

static ssize_t splice_page(struct worker *w, size_t i)
{
	struct state *s = w->state;
	struct iovec page = { address(s, i), psize() };

	must(s, vmsplice(w->pipe[1], &page, 1, 0) == psize());
	check_others(w);
	must(s, read(w->pipe[0], w->buffer, psize()) == psize());
	check_contents(s, i, w->buffer);
	return i;
}

/*
 * Flushed: the folio is faulted in again and gets a reference (FOLL_GET), so
 * that it may be written out, but not freed: the count of references in
 * pageout() and __remove_mapping().
 */
TEST_F_TIMEOUT(reclaim_states, spliced, TIMEOUT)
{
	struct state *s = &self->state;

	s->operation = splice_page;
	run(_metadata, s);
}

static ssize_t pin_page(struct worker *w, size_t i)
{
	struct state *s = w->state;
	struct iovec page = { address(s, i), psize() };
	struct io_uring_params params = { 0 };
	unsigned long pfn;
	int ring;

	ring = syscall(__NR_io_uring_setup, 1, &params);
	must(s, !syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS,
			 &page, 1));
	pfn = pagemap_get_pfn(s->pagemap_fd, address(s, i));
	check_others(w);
	check(s, i);
	if (pagemap_get_pfn(s->pagemap_fd, address(s, i)) != pfn)
		error(s, "page %zu was replaced while it was pinned", i);
	close(ring);
	return i;
}

/*
 * Flushed: the folio is faulted in again and pinned (FOLL_PIN), when it is in
 * the swap cache already.  It must stay where it is: folio_mapped(),
 * folio_maybe_dma_pinned().
 */
TEST_F_TIMEOUT(reclaim_states, pinned, TIMEOUT)
{
	struct io_uring_params params = { 0 };
	struct state *s = &self->state;
	int ring;

	if (geteuid())
		SKIP(return, "needs root, to see page frame numbers");
	ring = syscall(__NR_io_uring_setup, 1, &params);
	if (ring < 0)
		SKIP(return, "needs io_uring: %s", strerror(errno));
	close(ring);
	s->operation = pin_page;
	run(_metadata, s);
}

static ssize_t write_protect_page(struct worker *w, size_t i)
{
	struct state *s = w->state;
	struct uffdio_writeprotect wp = {
		.range.start = (unsigned long)address(s, i),
		.range.len = psize(),
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (!pagemap_bit(s, i, PM_UFFD_WP) != s->pages[i].written)
		error(s, "page %zu %s, userfaultfd says the opposite", i,
		      s->pages[i].written ? "was written" : "was not written");
	must(s, !ioctl(s->fd, UFFDIO_WRITEPROTECT, &wp));
	s->pages[i].written = false;
	return i;
}

/*
 * Either state: the swap entry is marked as write-protected; and the mark has
 * to be there, after reclaim and all, until the page is written to.
 */
TEST_F_TIMEOUT(reclaim_states, write_protected, TIMEOUT)
{
	struct state *s = &self->state;

	if (!open_uffd(s, UFFD_FEATURE_WP_ASYNC))
		SKIP(return, "needs userfaultfd with UFFD_FEATURE_WP_ASYNC");
	ASSERT_EQ(uffd_register(s->fd, s->region, NR_PAGES * psize(), false,
				true, false), 0);
	s->operation = write_protect_page;
	run(_metadata, s);
}

static ssize_t check_soft_dirty(struct worker *w, size_t i)
{
	struct state *s = w->state;

	if (s->pages[i].written && !pagemap_bit(s, i, PM_SOFT_DIRTY))
		error(s, "page %zu was written, but is not soft-dirty", i);
	if (!roll(w, 64)) {
		clear_softdirty();
		for (size_t k = 0; k < NR_PAGES; k++)
			s->pages[k].written = false;
	}
	return i;
}

/* Either state: the swap entry is soft-dirty as its page is. */
TEST_F_TIMEOUT(reclaim_states, soft_dirty, TIMEOUT)
{
	struct state *s = &self->state;

	if (!softdirty_supported())
		SKIP(return, "needs CONFIG_MEM_SOFT_DIRTY");
	s->nr_workers = 1;
	s->operation = check_soft_dirty;
	s->locks_mm = true;
	run(_metadata, s);
}

/* Makes the region a shared mapping of a file in memory. */
static bool map_file(struct state *s)
{
	size_t size = NR_PAGES * psize();

	s->fd = memfd_create("reclaim_states", MFD_CLOEXEC);
	return s->fd >= 0 && !ftruncate(s->fd, size) &&
	       mmap(s->region, size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED, s->fd, 0) == s->region;
}

/* As faulted_in; but the folio is in the page cache, without a swap entry. */
TEST_F_TIMEOUT(reclaim_states, shmem_faulted, TIMEOUT)
{
	struct state *s = &self->state;

	ASSERT_TRUE(map_file(s));
	run(_metadata, s);
}

static ssize_t write_to_file(struct worker *w, size_t i)
{
	struct state *s = w->state;
	unsigned int seed = atomic_fetch_add(&s->next_seed, 1);
	off_t offset = i * psize();

	if (roll(w, 2)) {
		must(s, pread(s->fd, w->buffer, psize(), offset) == psize());
		check_contents(s, i, w->buffer);
	}
	fill_page(w->buffer, seed);
	must(s, pwrite(s->fd, w->buffer, psize(), offset) == psize());
	s->pages[i] = (struct page){ .seed = seed, .written = true };
	return i;
}

/*
 * Flushed: the folio is written to under its lock, and not mapped; what was
 * written is written out with it.
 */
TEST_F_TIMEOUT(reclaim_states, shmem_written, TIMEOUT)
{
	struct state *s = &self->state;

	ASSERT_TRUE(map_file(s));
	s->operation = write_to_file;
	run(_metadata, s);
}

static ssize_t punch_hole(struct worker *w, size_t i)
{
	struct state *s = w->state;

	must(s, !fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			   i * psize(), psize()));
	s->pages[i] = (struct page){ .seed = 0 };
	return i;
}

/*
 * Unmapped: truncation waits for the folio lock.  Flushed: the folio is taken
 * out of the page cache; it has no mapping any more and pageout() keeps it.
 */
TEST_F_TIMEOUT(reclaim_states, shmem_hole_punched, TIMEOUT)
{
	struct state *s = &self->state;

	ASSERT_TRUE(map_file(s));
	s->operation = punch_hole;
	run(_metadata, s);
}

/* The signal of memory_failure() is no news. */
static void ignore(int signal)
{
}

/*
 * memory_failure() cannot handle a folio that reclaim has isolated: it marks it,
 * and leaves it where it is.  So it is unmapped here.
 */
static ssize_t poison_page(struct worker *w, size_t i)
{
	struct state *s = w->state;
	const uint64_t lost = KPF_HWPOISON | KPF_DIRTY;
	int calls = atomic_load(&s->calls);
	char *page = address(s, i);
	unsigned long pfn;
	uint64_t flags;

	check(s, i);
	pfn = pagemap_get_pfn(s->pagemap_fd, page);
	if (pfn == -1UL)
		return -1;
	if (madvise(page, psize(), MADV_HWPOISON))
		must(s, errno == EBUSY || errno == EHWPOISON);
	must(s, !madvise(page, psize(), MADV_DONTNEED));
	must(s, !pageflags_get(pfn, s->kpageflags_fd, &flags));
	flags &= lost | KPF_WRITEBACK | KPF_LRU;
	if (flags == lost) {
		w->nr_dirty++;
		/* let reclaim come to it */
		while (calls % 2 && atomic_load(&s->calls) == calls)
			usleep(100);
	}
	if (write(w->pipe[1], page, psize()) == psize()) {
		must(s, read(w->pipe[0], w->buffer, psize()) == psize());
		check_contents(s, i, w->buffer);
		if (flags == lost)
			error(s, "page %zu was poisoned, and is written out", i);
	} else {
		must(s, errno == EFAULT);
		/* some kernels leave an empty buffer */
		must(s, read(w->pipe[0], w->buffer, psize()) < 0 && errno == EAGAIN);
	}
	w->nr_poisoned++;
	return punch_hole(w, i);
}

/*
 * Flushed: the folio is poisoned, and not mapped.  Its contents must not be read
 * any more, so it must not be written out: folio_contain_hwpoisoned_page().
 */
TEST_F_TIMEOUT(reclaim_states, shmem_poisoned, TIMEOUT)
{
	const struct sigaction action = { .sa_handler = ignore };
	struct state *s = &self->state;
	struct worker *w = &s->workers[0];

	if (geteuid())
		SKIP(return, "needs root, to poison pages");
	s->kpageflags_fd = open("/proc/kpageflags", O_RDONLY);
	if (s->kpageflags_fd < 0)
		SKIP(return, "needs CONFIG_PROC_PAGE_MONITOR");
	if (madvise(s->region, 0, MADV_HWPOISON))
		SKIP(return, "needs CONFIG_MEMORY_FAILURE");
	ASSERT_EQ(sigaction(SIGBUS, &action, NULL), 0);
	ASSERT_TRUE(map_file(s));
	s->nr_workers = 1;
	s->operation = poison_page;
	s->slow = true;
	run(_metadata, s);
	ksft_print_msg("%u pages poisoned, %u of them dirty and isolated\n",
		       w->nr_poisoned, w->nr_dirty);
}

/* Truncates to page I, one of the last, and extends the file again. */
static ssize_t truncate_file(struct worker *w, size_t i)
{
	struct state *s = w->state;

	if (i < NR_PAGES - NR_PAGES / 4)
		return -1;
	must(s, !ftruncate(s->fd, i * psize()));
	must(s, !ftruncate(s->fd, NR_PAGES * psize()));
	for (size_t k = i; k < NR_PAGES; k++) {
		s->pages[k] = (struct page){ .seed = 0 };
		check(s, k);
		fill(s, k);
	}
	return i;
}

/* As shmem_hole_punched; and while the pages are gone there is no file. */
TEST_F_TIMEOUT(reclaim_states, shmem_truncated, TIMEOUT)
{
	struct state *s = &self->state;

	ASSERT_TRUE(map_file(s));
	s->nr_workers = 1;
	s->operation = truncate_file;
	s->slow = true;
	run(_metadata, s);
}

static ssize_t map_partly(struct worker *w, size_t i)
{
	struct state *s = w->state;
	size_t nr = read_pmd_pagesize() / psize();

	if (roll(w, 64))
		return zap_page(w, i);

	/* a new large folio; visits make holes in it */
	i -= i % nr;
	must(s, !madvise(address(s, i), nr * psize(), MADV_DONTNEED));
	for (size_t k = i; k < i + nr; k++)
		fill(s, k);
	return i;
}

/*
 * The folio is large, and some of its pages are zapped before or after reclaim
 * has unmapped the others.  In the batch it can be split only when it is
 * locked again; the parts then pass through reclaim once more.
 */
TEST_F_TIMEOUT(reclaim_states, partly_mapped, TIMEOUT)
{
	struct state *s = &self->state;
	size_t size = NR_PAGES * psize();
	long huge;

	if (!read_pmd_pagesize() || read_pmd_pagesize() > size)
		SKIP(return, "needs THP of at most %zu KiB", size / 1024);
	ASSERT_EQ(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
	ASSERT_EQ(madvise(s->region, size, MADV_HUGEPAGE), 0);
	s->nr_workers = 1;
	s->operation = map_partly;
	huge = vm_counter("thp_fault_alloc");
	run(_metadata, s);
	huge = vm_counter("thp_fault_alloc") - huge;
	ksft_print_msg("%ld large folios\n", huge);
	if (!huge)
		SKIP(return, "got no large folios");
}

/* Finds a swap area that others hardly use. */
static bool find_swap(struct state *s)
{
	int used, priority;
	char line[PATH_MAX];
	bool found = false;
	FILE *file;

	file = fopen("/proc/swaps", "r");
	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = sscanf(line, "%4000s %*s %*d %d %d", s->swap, &used,
			       &priority) == 3 && used < 65536;
	fclose(file);
	if (!found)
		*s->swap = '\0';
	else if (priority >= 0)
		s->swap_flags = SWAP_FLAG_PREFER | priority;
	return found;
}

static ssize_t swap_off(struct worker *w, size_t i)
{
	struct state *s = w->state;

	if (swapoff(s->swap)) {
		must(s, errno == ENOMEM);
		return -1;
	}
	must(s, !swapon(s->swap, s->swap_flags));
	return i;
}

/*
 * Unmapped: swapoff() waits for the folio lock.  Flushed: it maps all pages
 * again and takes the folio out of the swap cache, so that it has no mapping,
 * if a fault has not done so before.
 */
TEST_F_TIMEOUT(reclaim_states, swapped_off, TIMEOUT)
{
	struct state *s = &self->state;

	if (!find_swap(s))
		SKIP(return, "needs swap that is not in use");
	if (swapoff(s->swap)) {
		*s->swap = '\0';
		SKIP(return, "swapoff: %s", strerror(errno));
	}
	ASSERT_EQ(swapon(s->swap, s->swap_flags), 0);
	s->nr_workers = 1;
	s->operation = swap_off;
	s->every = 8;
	s->slow = true;
	run(_metadata, s);
}

/* Removes the cgroup, or makes one and has all pages charged to it. */
static ssize_t remove_memcg(struct worker *w, size_t i)
{
	struct state *s = w->state;

	if (!unlinkat(s->cgroup.dir, "gone", AT_REMOVEDIR))
		return i;
	must(s, !mkdirat(s->cgroup.dir, "gone", 0755));
	must(s, write_text(s->cgroup.dir, "gone/cgroup.procs", "0"));
	for (size_t k = 0; k < NR_PAGES; k++) {
		zap_page(w, k);
		fill(s, k);
	}
	must(s, write_text(s->cgroup.dir, "leaf/cgroup.procs", "0"));
	return -1;
}

/* Either state: the cgroup that the folio is charged to goes away. */
TEST_F_TIMEOUT(reclaim_states, memcg_removed, TIMEOUT)
{
	struct state *s = &self->state;

	if (s->cgroup.reclaim_fd < 0)
		SKIP(return, "needs root and memory cgroups (v2)");
	s->nr_workers = 1;
	s->operation = remove_memcg;
	s->slow = true;
	run(_metadata, s);
}

TEST_HARNESS_MAIN

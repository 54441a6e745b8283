// SPDX-License-Identifier: GPL-2.0
/*
 * Reclaim of all kinds of folios
 *
 * Large folios, folios that several processes map, KSM folios, and lists of
 * anonymous, shmem and file folios are reclaimed while they are being written
 * to.  No write may be lost, and no page may show what was taken away from it.
 *
 * The first thread reclaims a region, over and over again.  Workers on the
 * other CPUs, threads or processes, count in random pages of it, each in a word
 * of its own, and remember each count.  In some tests the first worker does one
 * more thing to the pages: it takes them away, splits the folio, or has them
 * written to disk.  The rest of each page is filled with a pattern.
 *
 * There are two ways to reclaim, which are used in turn.  MADV_PAGEOUT takes
 * the folios of one PMD, and only those that are mapped once; memory.reclaim
 * takes any.
 *
 * RECLAIM_FOLIOS_ROUNDS in the environment is the number of rounds of a test.
 * Each has new memory.
 *
 * guest: -m 1024 --append brd.rd_size=65536 --append check_pages=1 --append init_on_free=1
 * fs: ext4
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "vm_util.h"
#include "reclaim_util.h"

#define MAX_WORKERS	16

/* Seconds after which a test has failed: a hang, not slowness */
#define TIMEOUT		600

/* Rounds of a test, unless the environment says otherwise */
#define ROUNDS		2

/* Times that the region is reclaimed in a round */
#define PASSES		4

/* Pages of the region: two PMDs, where pages have 4 KiB */
#define NR_PAGES	1024UL

/*
 * Visits of the workers, all taken together, while that is done, and after it.
 * There is an end to them: reclaim cannot have what is always in use, but goes
 * on and on trying.
 */
#define VISITS_DURING	(2 * NR_PAGES)
#define VISITS_AFTER	NR_PAGES

/* Bytes of each page that the workers count in, a word each */
#define COUNTERS	(MAX_WORKERS * sizeof(unsigned long))

#define SPLIT_FILE	"/sys/kernel/debug/split_huge_pages"
#define KSM		"/sys/kernel/mm/ksm/"

/* What the region is made of */
struct memory {
	enum { ANON, SHARED_ANON, MEMFD, DISK_FILE, MIXED, MERGEABLE } type;
	unsigned int kib;	/* size of the folios; 0: of a page */
};

/* What a worker knows of its word in a page */
struct memo {
	unsigned long count;
	/* of the takings of the page: */
	unsigned int started;	/* not after the count was written */
	unsigned int finished;	/* before it was written */
};

/* How often a page was taken away: by one worker at the most in a test */
struct takings {
	atomic_uint started;
	atomic_uint finished;
};

struct state;

struct worker {
	struct state *state;
	int nr;			/* 0 .. state->nr_workers - 1 */
	char *region;		/* the mapping that it uses */
	unsigned int random;	/* for rand_r() */
	struct memo *memos;	/* one for each page; shared with processes */
	atomic_ulong visits;
	atomic_ulong done;	/* successful operations */
};

/* Shared with the parent, which has to clean up, and with processes. */
struct state {
	struct memory memory;
	char *region;
	size_t nr_pages;	/* of the region: NR_PAGES or fewer */
	size_t folio_pages;	/* of the folios that are wanted */
	bool moves;		/* every other half of a folio, */
	size_t distance;	/* so far, when it has been done */
	int fd;			/* of the file, or -1 */
	int shmem_fd;		/* of the one that is MIXED with it, or -1 */
	int pagemap_fd;
	struct takings *takings;	/* one for each page */
	unsigned int seeds[NR_PAGES];	/* of MERGEABLE pages */
	atomic_ulong errors;

	int cpus[MAX_WORKERS + 1];	/* the first reclaims */
	int nr_workers;
	bool processes;		/* workers are no threads */
	struct worker workers[MAX_WORKERS];
	pthread_t threads[MAX_WORKERS];
	pid_t pids[MAX_WORKERS];
	atomic_int ready;
	atomic_ulong visits_wanted;	/* of each, since the test began */
	atomic_bool stop;

	struct reclaim_cgroup cgroup;
	struct setting settings[8];
	int nr_settings;

	/* What a test has of its own */
	void (*visit)(struct worker *w);
	bool (*operation)(struct worker *w, size_t i);
	unsigned int every;	/* so many visits of the first worker, */
	bool everybody;		/* or of each */
	void (*page_out)(struct state *s, int pass);
	bool (*verify)(struct state *s);
};

static size_t page_offset(struct state *s, size_t i)
{
	size_t odd_half = s->distance ? i / (s->folio_pages / 2) % 2 : 0;

	return i * psize() + odd_half * s->distance;
}

static char *address(struct state *s, size_t i)
{
	return s->region + page_offset(s, i);
}

static unsigned int roll(struct worker *w, unsigned int sides)
{
	return rand_r(&w->random) % sides;
}

/* MIXED memory has a quarter of each, one behind the other. */
enum { MIX_ANON, MIX_SHMEM, MIX_FILE, MIX_PRIVATE };

static unsigned int quarter(struct state *s, size_t i)
{
	return i / (s->nr_pages / 4);
}

/* Every other page of a private file mapping is left as it is in the file. */
static bool is_written(struct state *s, size_t i)
{
	return s->memory.type != MIXED || quarter(s, i) != MIX_PRIVATE || i % 2;
}

/*
 * Checks what was just read from the worker's word in page I, when so many
 * takings of the page had finished before.
 */
static void check_word(struct worker *w, size_t i, unsigned long value,
		       unsigned int finished)
{
	const struct memo *memo = &w->memos[i];
	struct state *s = w->state;

	if (value != memo->count) {
		if (value || atomic_load(&s->takings[i].started) == memo->finished)
			error(s, "page %zu has %lu, worker %d has written %lu",
			      i, value, w->nr, memo->count);
	} else if (value && finished > memo->started) {
		error(s, "page %zu still has %lu, but was taken away", i, value);
	}
}

static void count(struct worker *w, size_t i)
{
	struct state *s = w->state;
	unsigned long *word = (void *)(w->region + page_offset(s, i));
	struct takings *takings = &s->takings[i];
	unsigned int finished = atomic_load(&takings->finished);
	unsigned long value;

	word += w->nr;
	value = __atomic_load_n(word, __ATOMIC_RELAXED);
	check_word(w, i, value, finished);
	if (!is_written(s, i))
		return;

	finished = atomic_load(&takings->finished);
	__atomic_store_n(word, value + 1, __ATOMIC_SEQ_CST);
	w->memos[i] = (struct memo){
		.count = value + 1,
		.started = atomic_load(&takings->started),
		.finished = finished,
	};
}

static void visit(struct worker *w)
{
	struct state *s = w->state;
	size_t i = roll(w, s->nr_pages);

	if (s->operation && (w->nr == 0 || s->everybody) &&
	    !roll(w, s->every) && s->operation(w, i))
		atomic_fetch_add(&w->done, 1);
	count(w, i);
}

/* Reclaim takes no notice of accesses to such memory. */
static int ignore_references(char *region)
{
	return madvise(region, NR_PAGES * psize(), MADV_RANDOM);
}

static __thread sigjmp_buf beyond_end;

/* The page was cut off the file. */
static void handle_sigbus(int signal)
{
	siglongjmp(beyond_end, 1);
}

/* A process has a mapping of its own. */
static char *map_file(struct state *s)
{
	char *at = mmap(NULL, NR_PAGES * psize(), PROT_READ | PROT_WRITE,
			MAP_SHARED, s->fd, 0);

	must(s, at != MAP_FAILED && !ignore_references(at));
	return at;
}

static bool has_visited(struct worker *w)
{
	return atomic_load(&w->visits) >= atomic_load(&w->state->visits_wanted);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct state *s = w->state;

	pin_to_cpu(s->cpus[1 + w->nr]);
	w->region = s->processes ? map_file(s) : s->region;
	atomic_fetch_add(&s->ready, 1);
	while (!atomic_load(&s->stop)) {
		if (has_visited(w)) {
			usleep(100);
			continue;
		}
		if (!sigsetjmp(beyond_end, 0))
			s->visit(w);
		atomic_fetch_add(&w->visits, 1);
	}
	return NULL;
}

static bool start_worker(struct state *s, int nr)
{
	pid_t parent = getpid(), pid;

	if (!s->processes)
		return !pthread_create(&s->threads[nr], NULL, work,
				       &s->workers[nr]);
	pid = fork();
	if (pid) {
		s->pids[nr] = pid;
		return pid > 0;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == parent)
		work(&s->workers[nr]);
	_exit(0);
}

static bool start_workers(struct state *s)
{
	atomic_store(&s->stop, false);
	atomic_store(&s->ready, 0);
	for (int nr = 0; nr < s->nr_workers; nr++)
		if (!start_worker(s, nr))
			return false;
	while (atomic_load(&s->ready) < s->nr_workers)
		usleep(100);
	return true;
}

static void stop_workers(struct state *s)
{
	int status;

	atomic_store(&s->stop, true);
	for (int nr = 0; nr < s->nr_workers; nr++)
		if (s->processes)
			must(s, waitpid(s->pids[nr], &status, 0) > 0 && !status);
		else
			pthread_join(s->threads[nr], NULL);
}

static unsigned long visits(struct state *s)
{
	unsigned long visits = 0;

	for (int nr = 0; nr < s->nr_workers; nr++)
		visits += atomic_load(&s->workers[nr].visits);
	return visits;
}

static unsigned long operations(struct state *s)
{
	unsigned long done = 0;

	for (int nr = 0; nr < s->nr_workers; nr++)
		done += atomic_load(&s->workers[nr].done);
	return done;
}

static void want_visits(struct state *s, unsigned long nr)
{
	atomic_fetch_add(&s->visits_wanted, nr / s->nr_workers);
}

static void wait_for_visits(struct state *s)
{
	for (int nr = 0; nr < s->nr_workers; nr++)
		while (!has_visited(&s->workers[nr]))
			usleep(1000);
}

static void madvise_pageout(struct state *s, size_t first, size_t nr)
{
	/* ENOMEM: a part has been moved */
	if (madvise(s->region + first * psize(), nr * psize(), MADV_PAGEOUT))
		must(s, errno == ENOMEM);
}

static void page_out(struct state *s, int pass)
{
	if (s->cgroup.reclaim_fd >= 0 && pass % 2)
		must(s, reclaim_cgroup(&s->cgroup, s->nr_pages / 2 * psize(),
				       "max"));
	else
		madvise_pageout(s, 0, s->nr_pages + s->distance / psize());
}

/* Is the page at CONTENTS what page I must be, apart from the counters? */
static bool has_pattern(struct state *s, size_t i, const char *contents)
{
	const unsigned int *words = (const void *)contents;
	bool taken = atomic_load(&s->takings[i].started);

	for (size_t k = COUNTERS / sizeof(*words); k < psize() / sizeof(*words); k++)
		if (words[k] != (taken ? 0 : i + 1 + k))
			return false;
	return true;
}

/* For when all workers have stopped */
static void verify_page(struct state *s, size_t i, const char *contents)
{
	unsigned long words[MAX_WORKERS];

	memcpy(words, contents, sizeof(words));
	for (int nr = 0; nr < s->nr_workers; nr++)
		check_word(&s->workers[nr], i, words[nr],
			   atomic_load(&s->takings[i].finished));
	if (!has_pattern(s, i, contents))
		error(s, "page %zu has lost its contents", i);
}

static bool verify(struct state *s)
{
	for (size_t i = 0; i < s->nr_pages; i++)
		verify_page(s, i, address(s, i));
	return true;
}

/* For MERGEABLE memory, in which each page has an owner */
static struct worker *owner(struct state *s, size_t i)
{
	return &s->workers[i % s->nr_workers];
}

/* One of a few contents or, a quarter of the pages, of a great many */
static void fill_mergeable(struct worker *w, size_t i)
{
	struct state *s = w->state;

	s->seeds[i] = 1 + roll(w, i % 4 ? 4 : INT_MAX);
	fill_page(address(s, i), s->seeds[i]);
}

/* A page of a file, written by a system call */
static void fill_file(struct state *s, size_t i)
{
	char page[psize()];

	fill_page(page, i + 1);
	memset(page, 0, COUNTERS);
	must(s, pwrite(s->fd, page, psize(), i * psize()) == psize());
}

static void fill(struct state *s, size_t i)
{
	switch (s->memory.type) {
	case MIXED:
		if (quarter(s, i) >= MIX_FILE)
			return fill_file(s, i);
		break;
	case DISK_FILE:
		return fill_file(s, i);
	case MERGEABLE:
		return fill_mergeable(owner(s, i), i);
	default:
		break;
	}
	fill_page(address(s, i), i + 1);
	memset(address(s, i), 0, COUNTERS);
}

static bool map_at(char *at, size_t size, int flags, int fd, off_t offset)
{
	return mmap(at, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd,
		    offset) == at;
}

/* An unlinked file in the working directory, to be written page by page */
static bool open_file(struct state *s)
{
	char name[] = "./reclaim_folios.XXXXXX";

	s->fd = mkstemp(name);
	if (s->fd < 0)
		return false;
	unlink(name);
	posix_fadvise(s->fd, 0, 0, POSIX_FADV_RANDOM);
	return !ftruncate(s->fd, s->nr_pages * psize());
}

static bool open_memfd(int *fd, size_t size)
{
	*fd = memfd_create("reclaim_folios", MFD_CLOEXEC);
	return *fd >= 0 && !ftruncate(*fd, size);
}

static bool map_mixed(struct state *s)
{
	size_t size = s->nr_pages / 4 * psize();

	return open_file(s) && open_memfd(&s->shmem_fd, size) &&
	       map_at(s->region, size, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) &&
	       map_at(s->region + MIX_SHMEM * size, size, MAP_SHARED,
		      s->shmem_fd, 0) &&
	       map_at(s->region + MIX_FILE * size, size, MAP_SHARED, s->fd,
		      MIX_FILE * size) &&
	       map_at(s->region + MIX_PRIVATE * size, size, MAP_PRIVATE, s->fd,
		      MIX_PRIVATE * size);
}

static bool map_memory(struct state *s)
{
	size_t size = s->nr_pages * psize();

	switch (s->memory.type) {
	case ANON:
	case MERGEABLE:
		return map_at(s->region, size, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	case SHARED_ANON:
		return map_at(s->region, size, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	case MEMFD:
		/* the mapping may be longer: huge pages need room there */
		return open_memfd(&s->fd, size) &&
		       map_at(s->region, NR_PAGES * psize(), MAP_SHARED, s->fd, 0);
	case DISK_FILE:
		return open_file(s) && map_at(s->region, size, MAP_SHARED, s->fd, 0);
	default:
		return map_mixed(s);
	}
}

static bool move_halves(struct state *s)
{
	size_t half = s->folio_pages / 2 * psize();

	s->distance = NR_PAGES * psize();
	for (size_t i = 0; i < s->nr_pages; i += s->folio_pages) {
		char *at = s->region + i * psize() + half;

		if (mremap(at, half, half, MREMAP_MAYMOVE | MREMAP_FIXED,
			   at + s->distance) == MAP_FAILED)
			return false;
	}
	return true;
}

/* New memory for a round, with nothing but the pattern in it */
static bool new_memory(struct state *s)
{
	size_t size = NR_PAGES * psize();

	close(s->fd);
	close(s->shmem_fd);
	s->fd = -1;
	s->shmem_fd = -1;
	s->distance = 0;
	if (mmap(s->region, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		 MAP_FIXED | MAP_NORESERVE, -1, 0) != s->region ||
	    !map_memory(s) ||
	    madvise(s->region, size, s->folio_pages > 1 ? MADV_HUGEPAGE :
							  MADV_NOHUGEPAGE) ||
	    ignore_references(s->region))
		return false;

	memset(s->takings, 0, NR_PAGES * sizeof(*s->takings));
	for (int nr = 0; nr < s->nr_workers; nr++)
		memset(s->workers[nr].memos, 0,
		       NR_PAGES * sizeof(*s->workers[nr].memos));
	for (size_t i = 0; i < s->nr_pages; i++)
		fill(s, i);
	return !s->moves || move_halves(s);
}

static int rounds(void)
{
	const char *env = getenv("RECLAIM_FOLIOS_ROUNDS");

	return env ? atoi(env) : ROUNDS;
}

static int timeout(void)
{
	return TIMEOUT * (1 + rounds() / 30);
}

static void run_round(struct __test_metadata *_metadata, struct state *s)
{
	ASSERT_TRUE(new_memory(s));
	ASSERT_TRUE(start_workers(s));
	for (int pass = 0; pass < PASSES; pass++) {
		want_visits(s, VISITS_DURING);
		s->page_out(s, pass);
		want_visits(s, VISITS_AFTER);	/* bring pages back */
		wait_for_visits(s);
	}
	stop_workers(s);

	/* what is verified was read from swap, as far as possible */
	s->page_out(s, 0);
	s->page_out(s, 1);
	ASSERT_TRUE(s->verify(s));
	ASSERT_EQ(s->errors, 0);
}

/* The test, once the state says what it is about. */
static void run(struct __test_metadata *_metadata, struct state *s)
{
	long swapped = swapped_out();
	int wanted = rounds();

	ASSERT_GT(wanted, 0);
	for (int round = 0; round < wanted; round++)
		run_round(_metadata, s);
	swapped = swapped_out() - swapped;

	ksft_print_msg("%ld pages swapped out, %lu visits, %lu operations\n",
		       swapped, visits(s), operations(s));
	if (s->memory.type != DISK_FILE && swapped < wanted * (long)NR_PAGES / 2)
		SKIP(return, "swap took too few pages");
	if (s->operation && !operations(s))
		SKIP(return, "got no chance to do what it is about");
}

static bool set(struct state *s, const char *path, const char *value)
{
	return change_setting(&s->settings[s->nr_settings++], path, value);
}

/* Has the kernel use folios of that size, and of no larger one */
static bool want_large_folios(struct state *s)
{
	unsigned int kib = s->memory.kib;

	if (s->memory.type == MEMFD)
		return kib == PMD && set(s, THP "shmem_enabled", "always");
	s->nr_settings += 2;
	return want_folios(&s->settings[s->nr_settings - 2], kib,
			   s->memory.type == SHARED_ANON);
}

static char *map_shared(size_t size)
{
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static bool make_workers(struct state *s)
{
	for (int nr = 0; nr < s->nr_workers; nr++) {
		struct worker *w = &s->workers[nr];

		w->state = s;
		w->nr = nr;
		w->random = nr;
		w->memos = (void *)map_shared(NR_PAGES * sizeof(*w->memos));
		if (!w->memos)
			return false;
	}
	return true;
}

/* Returns NULL, or why it cannot. */
static const char *init_state(struct state *s, struct memory memory)
{
	struct sigaction action = {
		.sa_handler = handle_sigbus,
		.sa_flags = SA_NODEFER,
	};
	size_t size = NR_PAGES * psize();

	if (!have_swap())
		return "needs swap";
	s->nr_workers = take_cpus(s->cpus, MAX_WORKERS + 1) - 1;
	if (s->nr_workers < 1)
		return "needs two CPUs";
	pin_to_cpu(s->cpus[0]);
	enter_cgroup(&s->cgroup, "reclaim_folios");

	s->memory = memory;
	s->nr_pages = NR_PAGES;
	s->folio_pages = 1;
	s->fd = -1;
	s->shmem_fd = -1;
	s->every = 64;
	s->visit = visit;
	s->page_out = page_out;
	s->verify = verify;
	if (memory.kib) {
		size_t folio = memory.kib == PMD ? read_pmd_pagesize() :
						   memory.kib * 1024UL;

		if (!folio || folio > size / 2 || folio < 2 * psize())
			return "needs large folios, of half the region at most";
		s->folio_pages = folio / psize();
		if (!want_large_folios(s))
			return "needs root, and THP of that size";
	}

	s->region = mmap(NULL, 3 * size, PROT_NONE, MAP_PRIVATE |
			 MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->region == MAP_FAILED)
		return "cannot map memory";
	s->region += -(unsigned long)s->region % size;
	s->takings = (void *)map_shared(NR_PAGES * sizeof(*s->takings));
	if (!s->takings || !make_workers(s))
		return "cannot map memory";
	s->pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	if (s->pagemap_fd < 0)
		return "needs /proc/self/pagemap";
	return sigaction(SIGBUS, &action, NULL) ? "cannot handle SIGBUS" : NULL;
}

/* In the parent, however the test ended. */
static bool clean_up(struct state *s)
{
	bool ok = remove_cgroup(&s->cgroup);

	while (s->nr_settings)
		ok &= restore_setting(&s->settings[--s->nr_settings]);
	return ok;
}

FIXTURE(reclaim_large)
{
	struct state state;
};

FIXTURE_VARIANT(reclaim_large)
{
	struct memory memory;
};

FIXTURE_VARIANT_ADD(reclaim_large, anon_64k)
{
	.memory = { ANON, 64 },
};

FIXTURE_VARIANT_ADD(reclaim_large, anon_pmd)
{
	.memory = { ANON, PMD },
};

FIXTURE_VARIANT_ADD(reclaim_large, shmem_64k)
{
	.memory = { SHARED_ANON, 64 },
};

FIXTURE_VARIANT_ADD(reclaim_large, shmem_pmd)
{
	.memory = { SHARED_ANON, PMD },
};

FIXTURE_SETUP(reclaim_large)
{
	const char *reason = init_state(&self->state, variant->memory);

	if (reason)
		SKIP(return, "%s", reason);
}

FIXTURE_TEARDOWN_PARENT(reclaim_large)
{
	EXPECT_TRUE(clean_up(&self->state));
}

/* As run(), and there must have been large folios. */
static void run_large(struct __test_metadata *_metadata, struct state *s)
{
	const char *allocated = s->memory.type == ANON ?
		"stats/anon_fault_alloc" : "stats/shmem_alloc";
	unsigned long made = thp_count(s->memory.kib, allocated);
	unsigned long whole = thp_count(s->memory.kib, "stats/swpout");
	unsigned long split = thp_count(s->memory.kib, "stats/split");

	run(_metadata, s);
	made = thp_count(s->memory.kib, allocated) - made;
	whole = thp_count(s->memory.kib, "stats/swpout") - whole;
	split = thp_count(s->memory.kib, "stats/split") - split;
	ksft_print_msg("%lu large folios, %lu swapped out as such, %lu split\n",
		       made, whole, split);
	if (made < rounds() * s->nr_pages / s->folio_pages / 2)
		SKIP(return, "got too few large folios");
}

/*
 * shrink_folio_list(): a large folio waits for the flush, and is written out,
 * as a whole; or it is faulted in again page by page in between.
 */
TEST_F_TIMEOUT(reclaim_large, written, timeout())
{
	run_large(_metadata, &self->state);
}

/* See struct takings. */
static void take_away(struct worker *w, size_t first, size_t nr,
		      bool (*take)(struct state *s, size_t first, size_t nr))
{
	struct state *s = w->state;

	for (size_t i = first; i < first + nr; i++)
		atomic_fetch_add(&s->takings[i].started, 1);
	must(s, take(s, first, nr));
	for (size_t i = first; i < first + nr; i++)
		atomic_fetch_add(&s->takings[i].finished, 1);
}

static bool zap(struct state *s, size_t first, size_t nr)
{
	return !madvise(address(s, first), nr * psize(), s->memory.type == ANON ?
			MADV_DONTNEED : MADV_REMOVE);
}

/* Some pages of a folio, or of two */
static size_t some_pages(struct worker *w, size_t first)
{
	size_t nr = 1 + roll(w, 2 + w->state->folio_pages / 4);

	return first + nr > w->state->nr_pages ? 1 : nr;
}

/* Pages of shmem may also leave the page table only. */
static bool zap_some(struct worker *w, size_t i)
{
	struct state *s = w->state;
	size_t nr = some_pages(w, i);

	if (s->memory.type == ANON || roll(w, 2))
		take_away(w, i, nr, zap);
	else
		must(s, !madvise(address(s, i), nr * psize(), MADV_DONTNEED));
	return true;
}

/*
 * shrink_folio_list(): a folio with pages that are not there any more is
 * split before it gets swap, and its parts come back on the list of the pass;
 * or, if that comes later, it has holes when it is locked again.
 */
TEST_F_TIMEOUT(reclaim_large, zapped_partly, timeout())
{
	struct state *s = &self->state;

	s->operation = zap_some;
	run_large(_metadata, s);
}

/* The LRU first: MADV_PAGEOUT splits a folio that is not in one piece. */
static void page_out_moved(struct state *s, int pass)
{
	page_out(s, pass + 1);
}

/*
 * shrink_folio_list(): one folio is mapped at two places, and is not to be
 * written before both are flushed.
 */
TEST_F_TIMEOUT(reclaim_large, moved_partly, timeout())
{
	struct state *s = &self->state;

	s->moves = true;
	s->page_out = page_out_moved;
	run_large(_metadata, s);
}

/* Half of each folio, which splits it; the LRU brings the rest. */
static void page_out_parts(struct state *s, int pass)
{
	size_t nr = s->folio_pages;

	if (pass % 2)
		return page_out(s, pass);
	for (size_t i = 0; i < s->nr_pages; i += nr)
		madvise_pageout(s, i + nr / 4, nr / 2);
}

/* Small folios that were one wait next to each other. */
TEST_F_TIMEOUT(reclaim_large, paged_out_partly, timeout())
{
	struct state *s = &self->state;

	s->page_out = page_out_parts;
	run_large(_metadata, s);
}

static bool split_folio(struct worker *w, size_t i)
{
	struct state *s = w->state;
	unsigned long at = (unsigned long)address(s, i);
	char request[64];

	snprintf(request, sizeof(request), "%d,0x%lx,0x%lx,0", getpid(), at,
		 at + psize());
	return write_text(AT_FDCWD, SPLIT_FILE, request);
}

/* shrink_folio_list(): a folio that waits cannot be split by others. */
TEST_F_TIMEOUT(reclaim_large, split, timeout())
{
	struct state *s = &self->state;

	if (access(SPLIT_FILE, W_OK))
		SKIP(return, "needs " SPLIT_FILE);
	s->operation = split_folio;
	run_large(_metadata, s);
}

/*
 * Swap for half of the region and half a folio.  What was swapped out before is
 * gone when a round begins.
 */
static void page_out_to_little_swap(struct state *s, int pass)
{
	char limit[32];

	snprintf(limit, sizeof(limit), "%zu",
		 (s->nr_pages + s->folio_pages) / 2 * psize());
	must(s, write_text(s->cgroup.dir, "memory.swap.max", limit));
	page_out(s, pass);
}

/*
 * shrink_folio_list(), for shmem pageout(): there is no swap for the whole
 * folio, so it is split, its parts come back on the list of the pass, and some
 * of them find no swap, either.
 */
TEST_F_TIMEOUT(reclaim_large, swap_runs_out, timeout())
{
	struct state *s = &self->state;
	unsigned long splits;

	if (s->cgroup.reclaim_fd < 0)
		SKIP(return, "needs root and memory cgroups (v2)");
	s->page_out = page_out_to_little_swap;
	splits = thp_count(s->memory.kib, "stats/split");
	run_large(_metadata, s);
	splits = thp_count(s->memory.kib, "stats/split") - splits;
	if (!splits)
		SKIP(return, "swap did not run out");
}

FIXTURE(reclaim_shared)
{
	struct state state;
};

FIXTURE_VARIANT(reclaim_shared)
{
	struct memory memory;
};

FIXTURE_VARIANT_ADD(reclaim_shared, small)
{
	.memory = { MEMFD, 0 },
};

FIXTURE_VARIANT_ADD(reclaim_shared, pmd)
{
	.memory = { MEMFD, PMD },
};

FIXTURE_SETUP(reclaim_shared)
{
	const char *reason = init_state(&self->state, variant->memory);

	if (reason)
		SKIP(return, "%s", reason);
	if (self->state.cgroup.reclaim_fd < 0)
		SKIP(return, "needs root and memory cgroups (v2)");
	self->state.processes = true;
}

FIXTURE_TEARDOWN_PARENT(reclaim_shared)
{
	EXPECT_TRUE(clean_up(&self->state));
}

/*
 * shrink_pass_flush(): the one flush has to reach the CPUs of all processes
 * that have a folio mapped.
 */
TEST_F_TIMEOUT(reclaim_shared, written, timeout())
{
	run(_metadata, &self->state);
}

static bool punch(struct state *s, size_t first, size_t nr)
{
	return !fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  first * psize(), nr * psize());
}

static bool punch_some(struct worker *w, size_t i)
{
	take_away(w, i, some_pages(w, i), punch);
	return true;
}

/*
 * shrink_folio_list() and pageout(): the folio may be gone from the file
 * when it is locked again.  What others wrote to it after that must not be
 * lost, and what they wrote before must not come back.
 */
TEST_F_TIMEOUT(reclaim_shared, punched, timeout())
{
	struct state *s = &self->state;

	s->operation = punch_some;
	run(_metadata, s);
}

static bool truncate_twice(struct state *s, size_t first, size_t nr)
{
	return !ftruncate(s->fd, first * psize()) &&
	       !ftruncate(s->fd, (first + nr) * psize());
}

/* The last half of the file, or less */
static bool truncate_some(struct worker *w, size_t i)
{
	struct state *s = w->state;

	i = s->nr_pages / 2 + i / 2;
	take_away(w, i, s->nr_pages - i, truncate_twice);
	return true;
}

/* As punched; and for a while there is no file where the folio was. */
TEST_F_TIMEOUT(reclaim_shared, truncated, timeout())
{
	struct state *s = &self->state;

	s->operation = truncate_some;
	s->every = 512;
	run(_metadata, s);
}

FIXTURE(reclaim_folios)
{
	struct state state;
};

FIXTURE_SETUP(reclaim_folios)
{
}

FIXTURE_TEARDOWN_PARENT(reclaim_folios)
{
	EXPECT_TRUE(clean_up(&self->state));
}

/* At once, before a shrinker splits what reaches beyond the end of its file. */
static void page_out_all(struct state *s, int pass)
{
	must(s, reclaim_cgroup(&s->cgroup, s->nr_pages * psize(), "max"));
}

/*
 * pageout(): a folio that reaches beyond the end of its file is split in the
 * second step, and the parts go back to the list of the pass.
 */
TEST_F_TIMEOUT(reclaim_folios, file_ends_within, timeout())
{
	struct state *s = &self->state;
	const char *reason = init_state(s, (struct memory){ MEMFD, PMD });
	unsigned long splits;

	if (reason)
		SKIP(return, "%s", reason);
	if (s->cgroup.reclaim_fd < 0)
		SKIP(return, "needs root and memory cgroups (v2)");
	s->page_out = page_out_all;
	s->nr_pages -= s->folio_pages / 2;
	splits = thp_count(s->memory.kib, "stats/split");
	run(_metadata, s);
	splits = thp_count(s->memory.kib, "stats/split") - splits;
	ksft_print_msg("%lu folios split\n", splits);
	if (!splits)
		SKIP(return, "no folio was split to be written out");
}

static bool is_mergeable(struct state *s, size_t i)
{
	const unsigned int *words = (void *)address(s, i);

	for (unsigned int k = 0; k < psize() / sizeof(*words); k++) {
		if (words[k] == s->seeds[i] + k)
			continue;
		error(s, "page %zu, word %u is %#x, filled with %#x", i, k,
		      words[k], s->seeds[i]);
		return false;
	}
	return true;
}

static void visit_mergeable(struct worker *w)
{
	struct state *s = w->state;
	size_t i = roll(w, NR_PAGES / s->nr_workers) * s->nr_workers + w->nr;

	is_mergeable(s, i);
	if (!roll(w, 8))
		fill_mergeable(w, i);
}

static bool verify_mergeable(struct state *s)
{
	for (size_t i = 0; i < NR_PAGES; i++)
		is_mergeable(s, i);
	return true;
}

/* Only the LRU brings what is merged; and ksmd has to come along. */
static void page_out_mergeable(struct state *s, int pass)
{
	long scans = ksm_get_full_scans();

	while (ksm_get_full_scans() < scans + 1)
		usleep(1000);
	must(s, reclaim_cgroup(&s->cgroup, NR_PAGES / 2 * psize(), "max"));
}

static bool run_ksm(struct state *s)
{
	return set(s, KSM "sleep_millisecs", "2") &&
	       set(s, KSM "pages_to_scan", "1000") && set(s, KSM "run", "1");
}

/*
 * shrink_folio_list(): a folio that KSM has merged is mapped many times, by no
 * PTE that can be written through, and whoever writes to it gets another.
 */
TEST_F_TIMEOUT(reclaim_folios, merged, timeout())
{
	struct state *s = &self->state;
	const char *reason = init_state(s, (struct memory){ MERGEABLE });
	long merged, unshared = vm_counter("cow_ksm");

	if (reason)
		SKIP(return, "%s", reason);
	if (s->cgroup.reclaim_fd < 0)
		SKIP(return, "needs root and memory cgroups (v2)");
	if (!run_ksm(s))
		SKIP(return, "needs root and CONFIG_KSM");
	ASSERT_EQ(prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0), 0);

	s->visit = visit_mergeable;
	s->verify = verify_mergeable;
	s->page_out = page_out_mergeable;
	run(_metadata, s);
	merged = ksm_get_self_merging_pages();
	unshared = vm_counter("cow_ksm") - unshared;
	ksft_print_msg("%ld pages are merged, %ld were unshared\n", merged,
		       unshared);
	if (merged < 1 || unshared < rounds())
		SKIP(return, "KSM merged too few pages");
}

/*
 * Verifies in place, then drops all pages of the file from the page cache, and
 * verifies what the file has.
 */
static bool verify_file(struct state *s)
{
	size_t first = s->memory.type == MIXED ? MIX_FILE * s->nr_pages / 4 : 0;
	size_t size = (s->nr_pages - first) * psize();
	unsigned char resident[NR_PAGES];
	char *at = s->region + first * psize();

	verify(s);
	if (fsync(s->fd) || munmap(at, size) ||
	    posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED) ||
	    mmap(at, size, PROT_READ, MAP_SHARED | MAP_FIXED, s->fd,
		 first * psize()) != at || mincore(at, size, resident))
		return false;
	for (size_t i = first; i < s->nr_pages; i++) {
		if (resident[i - first] & 1)
			error(s, "page %zu stays in the page cache", i);
		if (s->memory.type != MIXED || quarter(s, i) == MIX_FILE)
			verify_page(s, i, address(s, i));
		else if (!has_pattern(s, i, address(s, i)))
			error(s, "page %zu of the file was changed", i);
	}
	return true;
}

/* Why there is no file that is written back, or NULL */
static const char *no_file(struct state *s)
{
	struct statfs fs;

	if (!open_file(s))
		return "cannot create a file in the working directory";
	if (fstatfs(s->fd, &fs) || fs.f_type == TMPFS_MAGIC ||
	    fs.f_type == RAMFS_MAGIC)
		return "the working directory is on a file system without writeback";
	return NULL;
}

/* All of it in one call, or each quarter by itself, or what is old */
static void page_out_mixed(struct state *s, int pass)
{
	size_t size = s->nr_pages / 4 * psize();
	struct iovec quarters[4];
	int pidfd;

	switch (pass % 3) {
	case 0:
		return madvise_pageout(s, 0, s->nr_pages);
	case 1:
		for (int k = 0; k < 4; k++)
			quarters[k] = (struct iovec){ s->region + (3 - k) * size,
						      size };
		pidfd = syscall(__NR_pidfd_open, getpid(), 0);
		must(s, syscall(__NR_process_madvise, pidfd, quarters, 4,
				MADV_PAGEOUT, 0) == (ssize_t)(4 * size));
		close(pidfd);
		return;
	default:
		if (s->cgroup.reclaim_fd >= 0)
			must(s, reclaim_cgroup(&s->cgroup, 2 * size, "100"));
	}
}

/* Has the file written back that is privately mapped, its end first. */
static void write_back_private(struct state *s)
{
	size_t size = s->nr_pages / 4 * psize(), part = size / 16;
	off_t start = MIX_PRIVATE * size;

	for (off_t at = start + size - part; at >= start; at -= part)
		must(s, !sync_file_range(s->fd, at, part, SYNC_FILE_RANGE_WRITE));
}

/*
 * For a page of that file, between anonymous ones: makes it dirty or, if reclaim
 * has unmapped it, has all of them written back before reclaim comes to them.
 */
static bool dirty_or_write_back(struct worker *w, size_t i)
{
	struct state *s = w->state;
	size_t quarter_pages = s->nr_pages / 4;
	unsigned char resident;

	i = MIX_PRIVATE * quarter_pages + i % quarter_pages / 2 * 2;
	must(s, !mincore(address(s, i), psize(), &resident));
	if ((pagemap_get_entry(s->pagemap_fd, address(s, i)) & PM_PRESENT) ||
	    !(resident & 1))
		fill_file(s, i);
	else
		write_back_private(s);
	return true;
}

/*
 * shrink_pass_must_wait(): folios that are written out by reclaim itself, dirty
 * ones that are not, and clean ones that are freed at once follow each other on
 * a list, and only some of them can be written to.  shrink_folio_list(): one
 * that waited for those before it to be written out may be under writeback.
 */
TEST_F_TIMEOUT(reclaim_folios, mixed, timeout())
{
	struct state *s = &self->state;
	const char *reason = init_state(s, (struct memory){ MIXED });

	if (!reason)
		reason = no_file(s);
	if (reason)
		SKIP(return, "%s", reason);
	s->operation = dirty_or_write_back;
	s->every = 2;
	s->page_out = page_out_mixed;
	s->verify = verify_file;
	run(_metadata, s);
}

static void page_out_file(struct state *s, int pass)
{
	if (pass % 3 == 0 || s->cgroup.reclaim_fd < 0)
		madvise_pageout(s, 0, s->nr_pages);
	else if (pass % 3 == 1)
		must(s, reclaim_cgroup(&s->cgroup, s->nr_pages / 4 * psize(), "0"));
	else
		must(s, !fsync(s->fd));
}

/*
 * Looks for a page near page I that reclaim has unmapped, has it written back,
 * and counts in it before and after that, with no TLB miss if possible.
 */
static bool write_back(struct worker *w, size_t i)
{
	struct state *s = w->state;
	unsigned char resident[NR_PAGES];
	uint64_t entries[NR_PAGES];
	size_t nr = s->nr_pages - i;

	must(s, pread(s->pagemap_fd, entries, nr * sizeof(*entries),
		      (unsigned long)address(s, i) / psize() * sizeof(*entries)) > 0);
	must(s, !mincore(address(s, i), nr * psize(), resident));
	for (size_t k = 0; k < nr; k++) {
		if ((entries[k] & PM_PRESENT) || !(resident[k] & 1))
			continue;
		count(w, i + k);
		must(s, !sync_file_range(s->fd, (i + k) * psize(), psize(),
					 SYNC_FILE_RANGE_WAIT_BEFORE |
					 SYNC_FILE_RANGE_WRITE |
					 SYNC_FILE_RANGE_WAIT_AFTER));
		count(w, i + k);
		return true;
	}
	return false;
}

/*
 * shrink_pass_flush(): the TLB is flushed before a dirty file folio is
 * unlocked, so that the flusher misses no write.
 */
TEST_F_TIMEOUT(reclaim_folios, file_written_back, timeout())
{
	struct state *s = &self->state;
	const char *reason = init_state(s, (struct memory){ DISK_FILE });

	if (!reason)
		reason = no_file(s);
	if (reason)
		SKIP(return, "%s", reason);
	s->operation = write_back;
	s->everybody = true;
	s->page_out = page_out_file;
	s->verify = verify_file;
	run(_metadata, s);
}

TEST_HARNESS_MAIN

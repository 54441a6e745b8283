// SPDX-License-Identifier: GPL-2.0-only
/*
 * lost-writes - does this kernel lose writes to a shared file mapping?
 *
 *	cc -O2 -pthread -o lost-writes lost-writes.c
 *	./lost-writes [-d DIR] [-r ROUNDS] [-l LOST] [-t SECONDS] [-m MAPPINGS] [--memcg]
 *
 * When reclaim meets a dirty page of a file, it clears the page table entry and
 * unlocks the page, for the flusher to write it. If it flushes the TLBs only later,
 * a CPU may store to the page after the flusher has written it. The page is clean
 * by then, so the store is gone when the page is dropped.
 *
 * A round: one thread has pages of a file reclaimed, another stores to one of them.
 * When /proc/self/pagemap shows that reclaim has cleared its entry, the page is
 * written back by sync_file_range(), and then one more store is made. Such a round
 * has "caught" reclaim. In the end the file is synced, dropped from the page cache
 * and read back. If the last store is not there, it is lost.
 *
 *	-d DIR		where the file is (.); it has no name, so nothing is left
 *	-r ROUNDS	end after that many caught rounds (1000)
 *	-l LOST		end as soon as so many writes are lost (default: go on)
 *	-t SECONDS	end after that time (45)
 *	-m MAPPINGS	more mappings of the file, without pages (default: as many as
 *			it takes). Reclaim looks through all of them for each page: a
 *			pass must last longer than a device takes to write one page
 *	--memcg		reclaim by a cgroup of its own, not by MADV_PAGEOUT; as root.
 *			Uses memory.reclaim; before Linux 5.19 memory.high; of cgroup
 *			v1, memory.limit_in_bytes
 *
 * Needs two CPUs, but neither root nor swap. With a third CPU, the thread that
 * stores need not enter the kernel.
 *
 * Exit status: 0 none lost, of ENOUGH caught rounds or more; 1 some lost; 2 an error,
 * as a wrong argument or a full disk; 4 cannot tell, and why.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21		/* Linux 5.4 */
#endif

enum status { NONE_LOST = 0, LOST = 1, FAILED = 2, CANNOT_TELL = 4 };

/* A kernel that loses 1 % of them loses none of so many once in 150 times. */
#define ENOUGH		500

/* A pass is to take that many times as long as writing back a page. */
#define WINDOW		10
#define MIN_MAPPINGS	250
#define MAX_MAPPINGS	32000		/* vm.max_map_count is 65530 */
#define TRIAL_ROUNDS	5

/* How often a long run says how far it is. */
#define REPORT_MSEC	60e3

/* If no page was unmapped in so many rounds, none will be. */
#define ENOUGH_TRIES	100

#define PM_PRESENT	(1ULL << 63)	/* Documentation/admin-guide/mm/pagemap.rst */

/*
 * What has the pages reclaimed, in their order. A pass ends with a flush, so that
 * the page which is stored to must come well before its end. MADV_PAGEOUT takes all
 * pages in one pass. Other reclaim begins with passes over one page, two, four and
 * so on, and would wait for the flusher if it met dirty pages only.
 */
struct driver {
	void (*reclaim)(void);
	int nr_pages;
	int page;		/* that is stored to */
	int mappings;		/* 0: as many as make all of it take long enough */
	bool all_dirty;		/* else that page alone */
};

static long rounds = 1000, most_lost = LONG_MAX, seconds = 45, mappings;
static const char *dir = ".";
static const struct driver *driver;
static long page_size;
static int fd, pagemap_fd, usage_fd, reclaim_fd = -1;
static const char *reclaim_file = "MADV_PAGEOUT";	/* or that of the cgroup */
static const char *no_limit;		/* what lifts a limit, if that file is one */
static char *region;
static volatile uint64_t *word;		/* of the page that is stored to */
static int cpus[3], nr_cpus;

/* Of a round; the barrier is at both ends of it. */
static pthread_barrier_t barrier;
static atomic_bool over, started, reclaimed, written_back, given_up, stored;
static uint64_t value;			/* that was stored last */
static bool caught;
static bool too_short;			/* the pass, to write a page back meanwhile */
static long nr_unmapped;		/* rounds that saw the page unmapped */
static double reclaim_msec;

static void cannot_tell(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	printf("cannot tell: ");
	vprintf(fmt, args);
	printf("\n");
	exit(CANNOT_TELL);
}

static double now_msec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(FAILED, "cannot run on CPU %d", cpu);
}

static void take_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		err(FAILED, "cannot read the CPU affinity");
	for (int cpu = 0; cpu < CPU_SETSIZE && nr_cpus < 3; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[nr_cpus++] = cpu;
	if (nr_cpus < 2)
		cannot_tell("there is one CPU, and nobody who could store while it reclaims");
	run_on(cpus[0]);
}

/* --- The file ------------------------------------------------------------- */

static void check_file_system(void)
{
	static const struct { long magic; const char *name; } kinds[] = {
		{ 0x01021994, "tmpfs" }, { 0x858458f6, "ramfs" },
		{ 0x794c7630, "overlayfs" }, { 0x958458f6, "hugetlbfs" },
	};
	struct statfs fs;

	if (fstatfs(fd, &fs))
		err(FAILED, "%s: statfs", dir);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if ((unsigned int)fs.f_type == (unsigned int)kinds[i].magic)
			cannot_tell("%s is on %s, which writes no pages back by itself: name a directory of another file system",
				    dir, kinds[i].name);
}

static void write_file(void)
{
	char *page = calloc(1, page_size);

	if (!page)
		err(FAILED, "calloc");
	for (int i = 0; i < driver->nr_pages; i++)
		if (pwrite(fd, page, page_size, i * page_size) != page_size)
			err(FAILED, "%s: cannot write a file of %ld KiB", dir,
			    driver->nr_pages * page_size >> 10);
	if (fsync(fd))
		err(FAILED, "%s: fsync", dir);
	free(page);
}

/* Without a name, or, where a file system knows no such files, for a moment with one. */
static void open_file(void)
{
	sigset_t all, before;
	char path[4096];

	if (snprintf(path, sizeof(path), "%s/lost-writes.XXXXXX", dir) >= (int)sizeof(path))
		errx(FAILED, "%s: the path is too long", dir);
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0) {
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, &before);
		fd = mkstemp(path);
		if (fd < 0)
			err(FAILED, "%s: cannot make a file", dir);
		unlink(path);
		sigprocmask(SIG_SETMASK, &before, NULL);
	}
	check_file_system();
	write_file();
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);	/* one page at a time */
}

/* Maps the file NR times at AT, or, if that is NULL, at the end of what is mapped. */
static void map_more(long nr)
{
	size_t size = driver->nr_pages * page_size;

	for (; nr > 0; nr--)
		if (mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
			err(FAILED, "cannot map the file %ld times", mappings);
}

/*
 * The mapping that has pages comes last: reclaim goes through those of one offset in
 * the order in which they were made, and ends where the page is mapped no more.
 */
static void map_region(void)
{
	size_t size = driver->nr_pages * page_size;

	if (region)
		munmap(region, size);
	region = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (region == MAP_FAILED)
		err(FAILED, "cannot map the file");
	/* reclaim takes no notice of accesses; and no read-ahead */
	if (madvise(region, size, MADV_RANDOM))
		err(FAILED, "MADV_RANDOM");
	word = (uint64_t *)(region + driver->page * page_size);
}

static bool write_back(void)
{
	return !sync_file_range(fd, driver->page * page_size, page_size,
				SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				SYNC_FILE_RANGE_WAIT_AFTER);
}

static void drop_pages(void)
{
	if (fsync(fd))
		err(FAILED, "%s: fsync", dir);
	madvise(region, driver->nr_pages * page_size, MADV_DONTNEED);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/*
 * Brings the pages in, in order, for the round before has dropped them. Those of a hole
 * need not be read. But to write a new block is work for a kernel thread, and a CPU that
 * has run one looks for missed flushes: not without a CPU to spare.
 */
static void prepare_pages(void)
{
	if (!driver->all_dirty && nr_cpus > 2 &&
	    (ftruncate(fd, 0) || ftruncate(fd, driver->nr_pages * page_size)))
		err(FAILED, "%s: ftruncate", dir);
	for (int i = 0; i < driver->nr_pages; i++) {
		volatile uint64_t *page = (uint64_t *)(region + i * page_size);

		if (driver->all_dirty || i == driver->page)
			page[1] = value;
		else
			(void)page[1];
	}
}

static long page_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt + usage.ru_majflt;	/* a retried one counts as major in 5.10 */
}

/*
 * What has been written back must be write-protected, so that the next store is seen:
 * or sync_file_range() has not come to the page, and no store could be lost.
 */
static void check_writeback(void)
{
	long faults;

	*word = ++value;
	if (!write_back())
		err(FAILED, "%s: sync_file_range", dir);
	faults = page_faults();
	*word = ++value;
	if (page_faults() == faults)
		cannot_tell("sync_file_range() does not write pages of this file system back");
}

/* --- Reclaim -------------------------------------------------------------- */

static void reclaim_by_madvise(void)
{
	if (madvise(region, driver->nr_pages * page_size, MADV_PAGEOUT))
		cannot_tell("MADV_PAGEOUT: %s: Linux has it since 5.4, for files that one may write to",
			    strerror(errno));
}

/* Returns false if the kernel does not know such a request. */
static bool put(int to, const char *text)
{
	if (write(to, text, strlen(text)) >= 0)
		return true;
	/* less was reclaimed than was asked for: so be it */
	if (errno != EAGAIN && errno != EBUSY && errno != EINTR && errno != EINVAL)
		err(FAILED, "cannot write %s to the cgroup", text);
	return errno != EINVAL;
}

/* As much as makes reclaim come as far as the page, and beyond. */
static void reclaim_by_memcg(void)
{
	long nr = driver->nr_pages / 3 * page_size;
	char text[64], usage[64] = "";

	if (!no_limit) {
		/* since Linux 6.9; before, it may swap */
		snprintf(text, sizeof(text), "%ld swappiness=0", nr);
		if (!put(reclaim_fd, text)) {
			snprintf(text, sizeof(text), "%ld", nr);
			put(reclaim_fd, text);
		}
		return;
	}
	if (pread(usage_fd, usage, sizeof(usage) - 1, 0) < 0)
		err(FAILED, "cannot read the cgroup's usage");
	snprintf(text, sizeof(text), "%ld", atol(usage) - nr);
	put(reclaim_fd, text);
	put(reclaim_fd, no_limit);
}

static const struct driver madvise_driver = {
	.reclaim = reclaim_by_madvise,
	.nr_pages = 64,
	.all_dirty = true,
};

static const struct driver memcg_driver = {
	.reclaim = reclaim_by_memcg,
	.nr_pages = 96,
	.page = 24,
	.mappings = 2000,
};

/* Opens FILE of the cgroup CGROUP; -1: there is none. */
static int open_in(const char *cgroup, const char *file, int flags)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);
	return open(path, flags | O_CLOEXEC);
}

/* Makes a cgroup for the memory controller, of v2 or v1, and returns its path. */
static const char *make_cgroup(void)
{
	static char cgroup[256];
	char line[1024], at[128], type[32], options[256];
	FILE *mounts = fopen("/proc/self/mounts", "r");

	while (mounts && fgets(line, sizeof(line), mounts)) {
		if (sscanf(line, "%*s %127s %31s %255s", at, type, options) != 3 ||
		    (strcmp(type, "cgroup2") && (strcmp(type, "cgroup") || !strstr(options, "memory"))))
			continue;
		snprintf(cgroup, sizeof(cgroup), "%s/lost-writes.%d", at, getpid());
		if (mkdir(cgroup, 0755))
			continue;
		usage_fd = open_in(cgroup, "memory.current", O_RDONLY);
		if (usage_fd < 0)
			usage_fd = open_in(cgroup, "memory.usage_in_bytes", O_RDONLY);
		if (usage_fd >= 0) {
			fclose(mounts);
			return cgroup;
		}
		rmdir(cgroup);
	}
	cannot_tell("--memcg needs the memory controller of cgroup v2 or v1, and root");
	return NULL;
}

static void enter_cgroup(const char *cgroup)
{
	static const struct { const char *name, *no_limit; } files[] = {
		{ "memory.reclaim", NULL },
		{ "memory.high", "max" },
		{ "memory.limit_in_bytes", "-1" },
	};
	int procs = open_in(cgroup, "cgroup.procs", O_WRONLY);

	if (procs < 0 || write(procs, "0", 1) < 0)
		err(FAILED, "cannot enter %s", cgroup);
	close(procs);

	for (size_t i = 0; i < sizeof(files) / sizeof(*files) && reclaim_fd < 0; i++) {
		reclaim_fd = open_in(cgroup, files[i].name, O_WRONLY);
		reclaim_file = files[i].name;
		no_limit = files[i].no_limit;
	}
	if (reclaim_fd < 0)
		cannot_tell("%s has no file that reclaims", cgroup);
}

/* --- The race ------------------------------------------------------------- */

static bool is_mapped(void)
{
	uint64_t entry;

	if (pread(pagemap_fd, &entry, sizeof(entry), (uintptr_t)word / page_size * sizeof(entry)) !=
	    sizeof(entry))
		err(FAILED, "/proc/self/pagemap");
	return entry & PM_PRESENT;
}

/*
 * Stores on CPU 1, and never enters the kernel in a round. If the watcher has no CPU of
 * its own, that one stores, and this only runs while it sleeps: a CPU that idles, or
 * comes back to an address space from elsewhere, looks for flushes that it has missed.
 */
static void *storing_thread(void *arg)
{
	const struct sched_param param = {};

	run_on(cpus[1]);
	if (nr_cpus == 2 && sched_setscheduler(0, SCHED_IDLE, &param))
		err(FAILED, "SCHED_IDLE");
	while (pthread_barrier_wait(&barrier), !atomic_load(&over)) {
		while (!atomic_load(&written_back) && !atomic_load(&given_up)) {
			if (nr_cpus == 2)
				continue;
			*word = value;
			atomic_store(&started, true);
		}
		if (nr_cpus > 2 && atomic_load(&written_back)) {
			*word = value + 1;
			atomic_store(&stored, true);
		}
		pthread_barrier_wait(&barrier);
	}
	return arg;
}

/* Looks for the entry that is gone and writes the page back, on a CPU of its own or CPU 1. */
static void *watching_thread(void *arg)
{
	run_on(cpus[nr_cpus - 1]);
	while (pthread_barrier_wait(&barrier), !atomic_load(&over)) {
		bool mapped = true;

		if (nr_cpus == 2) {
			*word = value;
			atomic_store(&started, true);
		}
		while (mapped && !atomic_load(&reclaimed))
			mapped = is_mapped();
		nr_unmapped += !mapped;
		caught = !mapped && write_back();
		if (!caught) {
			atomic_store(&given_up, true);
		} else {
			atomic_store(&written_back, true);
			if (nr_cpus == 2)
				*word = value + 1;
			while (nr_cpus > 2 && !atomic_load(&stored))
				;
			value++;
		}
		pthread_barrier_wait(&barrier);
	}
	return arg;
}

/* Returns whether the file has the last store, once the page cache has forgotten it. */
static bool file_has_last_store(void)
{
	unsigned char resident;

	drop_pages();
	if (mincore((void *)word, page_size, &resident) || (resident & 1)) {
		caught = false;
		return true;
	}
	return *word == value;
}

/* One round. Returns whether a store was lost; sets caught. */
static bool play_round(void)
{
	double start;

	value++;
	prepare_pages();
	atomic_store(&started, false);
	atomic_store(&reclaimed, false);
	atomic_store(&written_back, false);
	atomic_store(&given_up, false);
	atomic_store(&stored, false);
	caught = false;
	pthread_barrier_wait(&barrier);
	while (!atomic_load(&started))
		;
	start = now_msec();
	driver->reclaim();
	reclaim_msec = now_msec() - start;
	atomic_store(&reclaimed, true);
	pthread_barrier_wait(&barrier);
	return !file_has_last_store() && caught;
}

/* Maps the file as often as makes a pass long enough for a page to be written back. */
static void choose_mappings(void)
{
	double pass, writeback;
	bool fixed = mappings || driver->mappings;
	long more = mappings ?: driver->mappings ?: MIN_MAPPINGS;

	for (mappings = 0;; more = mappings) {
		mappings += more;
		map_more(more);
		map_region();
		pass = 0;
		writeback = 0;
		for (int i = 0; i < TRIAL_ROUNDS; i++) {
			double start;

			play_round();
			pass += reclaim_msec;
			*word = ++value;
			start = now_msec();
			write_back();
			writeback += now_msec() - start;
		}
		if (fixed || !nr_unmapped || pass > WINDOW * writeback || mappings * 2 > MAX_MAPPINGS)
			break;
	}
	too_short = !driver->mappings && pass < 2 * writeback;
	printf("reclaim: by %s, of %d pages with %ld mappings, %.1f ms; writing one back: %.2f ms\n",
	       reclaim_file, driver->nr_pages, mappings, pass / TRIAL_ROUNDS, writeback / TRIAL_ROUNDS);
}

static int race(void)
{
	pthread_t threads[2];
	long nr_caught = 0, nr_lost = 0, tries = 0;
	double end, report;

	pthread_barrier_init(&barrier, NULL, 3);
	map_region();
	check_writeback();
	if (pthread_create(&threads[0], NULL, storing_thread, NULL) ||
	    pthread_create(&threads[1], NULL, watching_thread, NULL))
		errx(FAILED, "cannot start two threads");
	choose_mappings();

	report = now_msec() + REPORT_MSEC;
	for (end = now_msec() + seconds * 1e3;
	     nr_caught < rounds && nr_lost < most_lost && now_msec() < end; tries++) {
		if (play_round())
			nr_lost++;
		if (caught)
			nr_caught++;
		if (now_msec() > report) {
			warnx("%ld of %ld rounds caught so far, %ld writes lost", nr_caught, rounds, nr_lost);
			report += REPORT_MSEC;
		}
		if (tries > ENOUGH_TRIES && !nr_unmapped)
			cannot_tell("reclaim did not unmap the page in %ld rounds: this kernel leaves dirty pages of this file system mapped",
				    tries);
	}
	atomic_store(&over, true);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);

	printf("rounds: %ld, caught: %ld\n", tries, nr_caught);
	printf("%ld of %ld last writes lost\n", nr_lost, nr_caught);
	if (nr_lost) {
		printf("This kernel LOSES DATA: a store to a shared mapping of a file, made while reclaim had the page, is not in the file.\n");
		return LOST;
	}
	if (nr_caught < ENOUGH)
		cannot_tell("only %ld rounds caught reclaim, %d are enough: try a machine that is less busy, more time (-t), more rounds (-r)",
			    nr_caught, ENOUGH);
	if (too_short)
		cannot_tell("a pass of reclaim is over before a page is written back: try a faster device (-d), or a machine that is less busy");
	printf("No store was lost: either this kernel flushes in time, or no CPU here keeps a stale TLB entry for long enough.\n");
	return NONE_LOST;
}

/* --- What it runs on ------------------------------------------------------ */

/* The first line of FILE that begins with WORD and has PATTERN in it, or "". */
static const char *find_line(const char *file, const char *begin, const char *pattern)
{
	static char line[8192];
	FILE *f = fopen(file, "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, begin, strlen(begin)) && strstr(line, pattern)) {
			fclose(f);
			line[strcspn(line, "\n")] = '\0';
			return line;
		}
	}
	if (f)
		fclose(f);
	return "";
}

/* The type of the file system that the file is on. */
static const char *file_system(void)
{
	static char type[64] = "unknown file system";
	char path[64], id[32] = "";
	const char *line;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	sscanf(find_line(path, "mnt_id:", ""), "mnt_id: %30s", id);
	strcat(id, " ");
	line = strstr(find_line("/proc/self/mountinfo", id, ""), " - ");
	if (line)
		sscanf(line, " - %63s", type);
	return type;
}

static void describe(void)
{
	const char *virtual = "no hypervisor seen";
	const char *cpu;
	struct utsname name;

	uname(&name);
	if (*find_line("/proc/cpuinfo", "flags", " hypervisor") ||
	    !access("/sys/hypervisor/type", F_OK) ||
	    !access("/proc/device-tree/hypervisor", F_OK))
		virtual = "virtual machine";
	printf("kernel: %s %s %s\n", name.sysname, name.release, name.machine);
	cpu = strchr(find_line("/proc/cpuinfo", "model name", ":"), ':');
	printf("machine: %d CPUs, %d used;%s; %s\n", (int)sysconf(_SC_NPROCESSORS_ONLN), nr_cpus,
	       cpu ? cpu + 1 : " unknown CPU", virtual);
	printf("file: on %s, in %s\n", file_system(), dir);
}

/* A store to the mapping that the file system has no block for */
static void no_block(int signal)
{
	static const char text[] = "lost-writes: a page of the file cannot be read or written: is the file system full?\n";

	(void)signal;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(FAILED);
	_exit(FAILED);
}

/* Does it all. Does not return if it fails. */
static int run(void)
{
	const struct sigaction action = { .sa_handler = no_block };

	sigaction(SIGBUS, &action, NULL);
	page_size = sysconf(_SC_PAGESIZE);
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	if (pagemap_fd < 0)
		cannot_tell("/proc/self/pagemap: %s", strerror(errno));
	take_cpus();
	open_file();
	describe();
	return race();
}

static pid_t child;

static void pass_on(int signal)
{
	kill(child, signal);
}

/* In a child, which has left the cgroup when that is removed, come what may. */
static int run_in_cgroup(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = pass_on };
	const char *cgroup;
	sigset_t set, before;
	int status;

	sigemptyset(&set);
	for (int i = 0; i < 3; i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, &before);
	cgroup = make_cgroup();
	child = fork();
	if (child < 0)
		err(FAILED, "fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		enter_cgroup(cgroup);
		exit(run());
	}
	for (int i = 0; i < 3; i++)
		sigaction(signals[i], &action, NULL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	while (waitpid(child, &status, 0) < 0)
		;
	if (rmdir(cgroup))
		warn("cannot remove %s", cgroup);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* TEXT is a number from 1 to MAX. */
static long number(const char *text, long max)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 1 || n > max)
		errx(FAILED, "%s: not a number from 1 to %ld", text, max);
	return n;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "memcg", no_argument, NULL, 'g' }, {} };
	int option;

	driver = &madvise_driver;
	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((option = getopt_long(argc, argv, "d:r:l:t:m:", options, NULL)) != -1) {
		switch (option) {
		case 'd':
			dir = optarg;
			break;
		case 'r':
			rounds = number(optarg, 10000000);
			break;
		case 'l':
			most_lost = number(optarg, 10000000);
			break;
		case 't':
			seconds = number(optarg, 1000000);
			break;
		case 'm':
			mappings = number(optarg, MAX_MAPPINGS);
			break;
		case 'g':
			driver = &memcg_driver;
			break;
		default:
			errx(FAILED, "usage: lost-writes [-d DIR] [-r ROUNDS] [-t SECONDS] [-m MAPPINGS] [--memcg]");
		}
	}
	if (optind < argc)
		errx(FAILED, "%s: no such argument: the directory is given by -d", argv[optind]);
	return driver == &memcg_driver ? run_in_cgroup() : run();
}

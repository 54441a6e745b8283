// SPDX-License-Identifier: GPL-2.0-only
/*
 * oom - how far can a cgroup be limited until a process is killed for it?
 *
 *	oom -g CGROUP [-s MIB] [-n THREADS] [-p PERCENT] [-t TOUCHES] [-w USEC]
 *
 * A process in the cgroup, whose threads write to random pages of one region all the
 * time, so that none is cold.  Its parent, outside, lowers memory.max step by step,
 * beginning with the size of the region, and goes on when the threads have made a number
 * of writes, be it long or short, until the process is killed.  Small steps: whoever
 * lowers the limit has to reclaim what is above it, and may have the process killed, too.
 *
 *	-g CGROUP	the directory of a cgroup without processes
 *	-s MIB		size of the region (8)
 *	-n THREADS	(8)
 *	-p PERCENT	what a limit is of the one before (93)
 *	-t TOUCHES	writes, of all threads, under each limit (500)
 *	-w USEC		a thread sleeps for that after each of its writes (0)
 *
 * A touch adds one to a word of the page that is the thread's own, and checks what it
 * was.
 *
 * Prints one line of key=value words:
 *
 *	limit		pages, at which the process was killed
 *	steps		limits before that
 *
 * Exit status 1 if anything failed: also if a touch found another count than was left
 * there, or if the process ended otherwise, or never.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "number.h"
#include "region.h"
#include "task.h"

/* A cgroup needs some for its kernel stacks and page tables. */
#define LEAST_PAGES	8
#define THREADS_MAX	64

static const char *cgroup;
static long mib = 8, nr_threads = 8, percent = 93, nr_touches = 500,
	    pause_usec;
static size_t page_size, nr_pages;
static uint32_t *region;
static atomic_ulong *touches;		/* shared with the parent, and charged to it */

static void put(const char *name, const char *text)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", cgroup, name);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		err(1, "%s", path);
	close(fd);
}

/* The words of the threads are the first ones of the page. */
static void *touch_pages(void *nr)
{
	uint64_t x = 0x9e3779b97f4a7c15 * ((uintptr_t)nr + 1);
	struct timespec pause = { .tv_nsec = pause_usec * 1000 };
	uint32_t *counts = calloc(nr_pages, sizeof(*counts));

	if (!counts)
		err(1, "calloc");
	while (true) {
		size_t page = next_random(&x) * nr_pages >> 32;
		uint32_t *word = region + page * (page_size / sizeof(*region)) + (uintptr_t)nr;

		if (__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST) != counts[page]++)
			errx(1, "page %zu: a touch was lost", page);
		(*touches)++;
		if (pause_usec)
			nanosleep(&pause, NULL);
	}
	return NULL;
}

/* What compresses to about half, behind the threads' words, which are nought. */
static void fill_region(void)
{
	size_t words = page_size / sizeof(*region);
	uint64_t x = 0x9e3779b97f4a7c15;

	region = map_anonymous(nr_pages * page_size, 1);
	for (size_t page = 0; page < nr_pages; page++)
		for (size_t i = THREADS_MAX; i < words; i++)
			region[page * words + i] = i < words / 2 ? next_random(&x) : x;
}

static void run_child(pid_t parent)
{
	pthread_t thread;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		errx(1, "the parent has gone");
	put("cgroup.procs", "0");
	fill_region();
	for (uintptr_t i = 1; i < (uintptr_t)nr_threads; i++) {
		errno = pthread_create(&thread, NULL, touch_pages, (void *)i);
		if (errno)
			err(1, "pthread_create");
	}
	touch_pages(NULL);
}

/* Until so many touches more were made, or the process was killed: then false. */
static bool await_touches(pid_t child, unsigned long more)
{
	const struct timespec msec = { .tv_nsec = 1000000 };
	unsigned long until = *touches + more;
	int status;
	pid_t pid;

	while (*touches < until) {
		pid = waitpid(child, &status, WNOHANG);
		if (pid < 0)
			err(1, "waitpid");
		if (pid && (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL))
			errx(1, "the process was not killed, but ended with status %#x", status);
		if (pid)
			return false;
		nanosleep(&msec, NULL);
	}
	return true;
}

/* Was it the kernel, for want of memory in the cgroup? */
static bool oom_killed(void)
{
	char path[4096], line[256];
	unsigned long count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/memory.events", cgroup);
	file = fopen(path, "r");
	if (!file)
		err(1, "%s", path);
	while (!count && fgets(line, sizeof(line), file))
		sscanf(line, "oom_kill %lu", &count);
	fclose(file);
	return count;
}

static void parse_options(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "g:s:n:p:t:w:")) != -1) {
		switch (opt) {
		case 'g':
			cgroup = optarg;
			break;
		case 's':
			mib = number(optarg, 1, 1 << 20);
			break;
		case 'n':
			nr_threads = number(optarg, 1, THREADS_MAX);
			break;
		case 'p':
			percent = number(optarg, 1, 99);
			break;
		case 't':
			nr_touches = number(optarg, 1, 1000000000);
			break;
		case 'w':
			pause_usec = number(optarg, 0, 999999);
			break;
		default:
			exit(2);
		}
	}
	if (optind < argc || !cgroup)
		errx(2, "wrong arguments: see the head of oom.c");
}

int main(int argc, char **argv)
{
	pid_t parent = getpid(), child;
	long steps = 0, limit;
	char text[32];

	parse_options(argc, argv);
	page_size = sysconf(_SC_PAGESIZE);
	nr_pages = ((size_t)mib << 20) / page_size;
	touches = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (touches == MAP_FAILED)
		err(1, "mmap");
	*touches = 0;
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child)
		run_child(parent);
	if (!await_touches(child, nr_pages))
		errx(1, "killed without a limit");
	for (limit = nr_pages; limit >= LEAST_PAGES; limit = limit * percent / 100, steps++) {
		snprintf(text, sizeof(text), "%zu", limit * page_size);
		put("memory.max", text);
		if (await_touches(child, nr_touches))
			continue;
		if (!oom_killed())
			errx(1, "killed, but not for want of memory");
		printf("limit=%ld steps=%ld\n", limit, steps);
		return fflush(stdout) ? 1 : 0;
	}
	errx(1, "not killed with %d pages", LEAST_PAGES);
}

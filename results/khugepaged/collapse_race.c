// SPDX-License-Identifier: GPL-2.0
/*
 * Does collapse_file() hand on a shmem folio while another CPU still has a
 * writable TLB entry for it?
 *
 * Process P: thread "collapser" on CPU 0 calls MADV_COLLAPSE on a tmpfs file that
 * has one page only (tmpfs is too small for more, so the collapse always fails);
 * thread "writer" on CPU 1 writes to that page; thread "reader" on CPU 2 takes
 * references on it with pread(), so that collapse_file() often ends with
 * SCAN_PAGE_COUNT. Process H, real time, on CPU 0, another mm: wakes up at random,
 * looks in P's pagemap whether the page is unmapped, and if so pages it out.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#define PMD (2UL << 20)
#define SLOTS 512

struct ctl {
	volatile int stop, reader_idle, quit;
	volatile uint64_t n;		/* the writer's last value */
	volatile uint64_t lost, first_lost_n, first_lost_v;
	volatile uint64_t collapses, einval, eagain, ebusy, enomem, ok, eother;
	volatile uint64_t wakes, unmapped, blocked, paged_out, stale, corrupt;
};
static struct ctl *ctl;
static int fd;
static char *map;
static int reader_pause = 200;

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		perror("sched_setaffinity"), exit(1);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ULL + t.tv_nsec / 1000;
}

static void *writer(void *arg)
{
	volatile uint64_t *p = (void *)map;
	uint64_t n = 0;

	pin(1);
	while (!ctl->quit) {
		if (n > 8) {
			uint64_t v = p[(n - 4) % SLOTS];

			if (v != n - 4) {
				if (!ctl->lost) {
					ctl->first_lost_n = n - 4;
					ctl->first_lost_v = v;
				}
				ctl->lost++;
				/* start over */
				for (int i = 0; i < 8; i++, n++)
					p[(n + 1) % SLOTS] = n + 1;
			}
		}
		n++;
		p[n % SLOTS] = n;
		ctl->n = n;
	}
	return NULL;
}

static void *reader(void *arg)
{
	char buf[64];
	unsigned int seed = 1;

	pin(2);
	while (!ctl->quit) {
		if (ctl->stop) {
			ctl->reader_idle = 1;
			continue;
		}
		ctl->reader_idle = 0;
		if (pread(fd, buf, sizeof(buf), 0) < 0)
			perror("pread");
		for (volatile int i = rand_r(&seed) % reader_pause; i > 0; i--)
			;
	}
	return NULL;
}

static void *collapser(void *arg)
{
	char *dummy = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*dummy = 1;
	pin(0);
	while (!ctl->quit) {
		madvise(dummy, 4096, MADV_COLD);	/* lru_add_drain() */
		ctl->collapses++;
		if (!madvise(map, PMD, MADV_COLLAPSE))
			ctl->ok++;
		else if (errno == EINVAL)
			ctl->einval++;
		else if (errno == EAGAIN)
			ctl->eagain++;
		else if (errno == EBUSY)
			ctl->ebusy++;
		else if (errno == ENOMEM)
			ctl->enomem++;
		else
			ctl->eother++;
	}
	return NULL;
}

static void helper(pid_t parent, int seconds)
{
	char path[64], *b, *anon;
	volatile char sink;
	unsigned char vec;
	int pm, n_anon = 64;
	unsigned int seed = getpid();
	struct sched_param sp = { .sched_priority = 50 };
	uint64_t end = now_us() + seconds * 1000000ULL, entry;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	b = mmap(NULL, PMD, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", parent);
	pm = open(path, O_RDONLY);
	if (pm < 0 || b == MAP_FAILED)
		perror(path), exit(1);
	if (sched_setscheduler(0, SCHED_FIFO, &sp))
		perror("sched_setscheduler"), exit(1);
	while (now_us() < end) {
		struct timespec t = { 0, 20000 + rand_r(&seed) % 300000 };
		uint64_t before, n0, t0;

		clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
		ctl->wakes++;
		if (pread(pm, &entry, 8, (uintptr_t)map / 4096 * 8) != 8)
			perror("pagemap"), exit(1);
		if (entry >> 63)
			continue;
		/* Unmapped. Does the writer go on writing? */
		n0 = ctl->n;
		t0 = now_us();
		while (ctl->n == n0 && now_us() - t0 < 20)
			;
		if (ctl->n == n0)
			continue;
		ctl->unmapped++;
		ctl->stop = 1;
		t0 = now_us();
		while (!ctl->reader_idle && now_us() - t0 < 20000)
			;
		if (!ctl->reader_idle) {	/* it waits for the folio lock */
			ctl->blocked++;
			goto out;
		}
		sink = b[0];			/* map it here */
		before = ctl->n;
		madvise(b, 4096, MADV_PAGEOUT);
		vec = 1;
		mincore(b, 4096, &vec);
		if (vec & 1)
			goto out;
		ctl->paged_out++;
		/* The page is free. Take free pages. */
		anon = mmap(NULL, n_anon * 4096, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (int i = 0; i < n_anon; i++)
			memset(anon + i * 4096, 0, 4096);
		t0 = now_us();
		n0 = ctl->n;
		while (now_us() - t0 < 200)
			;
		if (pread(pm, &entry, 8, (uintptr_t)map / 4096 * 8) == 8 &&
		    !(entry >> 63) && ctl->n - n0 > 20)
			ctl->stale++;
		for (int i = 0; i < n_anon; i++)
			if (memcmp(anon + i * 4096, (char[4096]){ 0 }, 4096)) {
				if (!ctl->corrupt)
					printf("H: private page of another process has %llu, the writer was at %llu\n",
					       *(unsigned long long *)(anon + i * 4096 + 64),
					       (unsigned long long)n0);
				ctl->corrupt++;
			}
		munmap(anon, n_anon * 4096);
		(void)before;
out:
		ctl->reader_idle = 0;
		ctl->stop = 0;
	}
	(void)sink;
	exit(0);
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 60;
	pthread_t w, r, c;
	pid_t h;

	if (argc > 2)
		reader_pause = atoi(argv[2]);
	setvbuf(stdout, NULL, _IONBF, 0);
	ctl = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mkdir("/t", 0777);
	if (mount("t", "/t", "tmpfs", 0, "size=64k"))
		perror("mount"), exit(1);
	fd = open("/t/f", O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, PMD) || pwrite(fd, "", 1, 0) != 1)
		perror("/t/f"), exit(1);
	pin(0);
	/* the address of the map has to be known to both */
	map = mmap(NULL, 2 * PMD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	map = (char *)(((uintptr_t)map + PMD - 1) & ~(PMD - 1));
	h = fork();
	if (!h)
		helper(getppid(), seconds);
	map = mmap(map, PMD, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (map == MAP_FAILED)
		perror("mmap"), exit(1);
	pthread_create(&w, NULL, writer, NULL);
	pthread_create(&r, NULL, reader, NULL);
	pthread_create(&c, NULL, collapser, NULL);
	for (int i = 0; i < 100000; i++) {
		struct timespec t = { 5, 0 };
		int st;

		if (waitpid(h, &st, WNOHANG) == h)
			break;
		nanosleep(&t, NULL);
		printf("n %llu, collapses %llu (0 %llu, EINVAL %llu, EAGAIN %llu, EBUSY %llu, ENOMEM %llu, other %llu); wakes %llu, unmapped and written %llu, reader blocked %llu, paged out %llu, with stale entry %llu, corrupt %llu; LOST %llu\n",
		       (long long)ctl->n, (long long)ctl->collapses, (long long)ctl->ok,
		       (long long)ctl->einval, (long long)ctl->eagain, (long long)ctl->ebusy,
		       (long long)ctl->enomem, (long long)ctl->eother,
		       (long long)ctl->wakes, (long long)ctl->unmapped, (long long)ctl->blocked,
		       (long long)ctl->paged_out, (long long)ctl->stale,
		       (long long)ctl->corrupt, (long long)ctl->lost);
	}
	ctl->quit = 1;
	pthread_join(w, NULL);
	if (ctl->lost)
		printf("first: wrote %llu, read back %llu\n", (long long)ctl->first_lost_n,
		       (long long)ctl->first_lost_v);
	printf("RESULT collapses=%llu unmapped=%llu paged_out=%llu stale=%llu corrupt=%llu lost=%llu\n",
	       (long long)ctl->collapses, (long long)ctl->unmapped, (long long)ctl->paged_out,
	       (long long)ctl->stale, (long long)ctl->corrupt, (long long)ctl->lost);
	return ctl->lost || ctl->corrupt;
}

// SPDX-License-Identifier: GPL-2.0-only
/* burst THREADS MIB: threads of one process write new memory, all at once. */
#include <err.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

static char *mem;
static size_t each;
static pthread_barrier_t begin;

static void *write_part(void *nr)
{
	char *page = mem + each * (uintptr_t)nr;
	unsigned int seed = (uintptr_t)nr;

	pthread_barrier_wait(&begin);
	for (size_t i = 0; i < each; i += 4096, page += 4096)
		for (int j = 0; j < 2048; j += 8)	/* compresses to half */
			*(int *)(page + j) = rand_r(&seed);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[256];
	size_t nr = argc == 3 ? atol(argv[1]) : 0, size = nr ? (size_t)atol(argv[2]) << 20 : 0;

	if (!size || nr > 256)
		errx(2, "usage: burst THREADS MIB");
	each = size / nr & ~4095UL;
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED || madvise(mem, size, MADV_NOHUGEPAGE))
		err(1, "mmap");
	pthread_barrier_init(&begin, NULL, nr);
	for (uintptr_t i = 0; i < nr; i++)
		if (pthread_create(&threads[i], NULL, write_part, (void *)i))
			errx(1, "pthread_create");
	for (size_t i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

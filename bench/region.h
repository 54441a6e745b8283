/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory that is paged out.  Define _GNU_SOURCE first; what fails ends the program. */
#ifndef REGION_H
#define REGION_H

#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "task.h"

/* No huge pages there. */
static inline void small_pages(void *start, size_t size)
{
	/* EINVAL: a kernel without huge pages */
	if (madvise(start, size, MADV_NOHUGEPAGE) && errno != EINVAL)
		err(1, "MADV_NOHUGEPAGE");
}

/* New anonymous memory of small pages, SIZE bytes, at a multiple of ALIGN. */
static inline void *map_anonymous(size_t size, size_t align)
{
	char *start = mmap(NULL, size + align - 1, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		err(1, "mmap");
	start += -(uintptr_t)start % align;
	small_pages(start, size);
	return start;
}

/*
 * Fill the NR words of a page with what no swap code takes for zeroes: so many random
 * ones, and then the last of them again and again, which compresses.  Or, if !fill, check
 * that it still holds just that.
 */
static inline bool fill_or_check(uint64_t *word, size_t nr, size_t random, uint64_t seed,
				 bool fill)
{
	uint64_t x = seed + 0x9e3779b97f4a7c15;

	for (size_t i = 0; i < nr; i++) {
		if (i < random)
			next_random(&x);
		if (fill)
			word[i] = x;
		else if (word[i] != x)
			return false;
	}
	return true;
}

#endif

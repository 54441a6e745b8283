// SPDX-License-Identifier: GPL-2.0-only
/*
 * fragment - spread memory that only compaction can move, a page here and there
 *
 *	fragment MIB PART
 *
 * Takes MIB of memory a page at a time, as a rule one beside the other, and gives
 * back all but each PART-th page.  What is kept is locked: reclaim does not take it,
 * compaction can move it.  No block of PART pages or more is free there until it does.
 *
 * Prints "ready" then, and keeps the memory until its standard input ends.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "number.h"
#include "region.h"

/* Base pages that are there when they are touched. */
static char *map(size_t size)
{
	char *start = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (start == MAP_FAILED)
		err(1, "mmap");
	small_pages(start, size);
	return start;
}

int main(int argc, char **argv)
{
	size_t page_size = sysconf(_SC_PAGESIZE), size, part;
	char *kept, *given;

	if (argc != 3)
		errx(2, "wrong arguments: see the head of fragment.c");
	size = number(argv[1], 1, 1 << 24) << 20;
	part = number(argv[2], 1, 1 << 9);
	kept = map(size);
	given = map(size);
	if (mlock2(kept, size, MLOCK_ONFAULT))
		err(1, "mlock2");
	for (size_t at = 0; at < size; at += page_size)
		(at / page_size % part ? given : kept)[at] = 1;
	if (munmap(given, size))
		err(1, "munmap");
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}

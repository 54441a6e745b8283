/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What memory.reclaim knows as no file pages at all: "max", before that was 200.
 */
#ifndef SWAPPINESS_H
#define SWAPPINESS_H

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* PATH is a memory.reclaim. */
static inline const char *max_swappiness(const char *path)
{
	static const char probe[] = "0 swappiness=max";
	int fd = open(path, O_WRONLY);
	int known = fd >= 0 && write(fd, probe, strlen(probe)) > 0;

	if (fd >= 0)
		close(fd);
	return known ? "max" : "200";
}

#endif

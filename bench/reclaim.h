/* SPDX-License-Identifier: GPL-2.0-only */
/* memory.reclaim of a cgroup; PATH is that file. */
#ifndef RECLAIM_H
#define RECLAIM_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* What it knows as no file pages at all: "max", before that was 200. */
static inline const char *max_swappiness(const char *path)
{
	static const char probe[] = "0 swappiness=max";
	int fd = open(path, O_WRONLY);
	int known = fd >= 0 && write(fd, probe, strlen(probe)) > 0;

	if (fd >= 0)
		close(fd);
	return known ? "max" : "200";
}

/* Less may be reclaimed than is asked for: whoever calls counts what is gone. */
static inline void request_reclaim(const char *path, const char *request)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0)
		err(1, "%s", path);
	if (write(fd, request, strlen(request)) < 0 && errno != EAGAIN)
		err(1, "%s: %s", path, request);
	close(fd);
}

#endif

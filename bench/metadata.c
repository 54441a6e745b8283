// SPDX-License-Identifier: GPL-2.0-only
/*
 * metadata - what a PHP application does to the directory of its cache
 *
 *	metadata -d DIRECTORY [-n FILES] [-o OPERATIONS] [-r RATE] [-s SEED]
 *
 * Makes a tree of DIRECTORY/a/b/c/d, 16 directories in each of the upper levels,
 * as far as the files need them, with 8 files in the lowest, and then does
 * OPERATIONS on files picked at random:
 *
 *	of 100	60	stat, of which some find no file
 *		20	open, read, close
 *		10	create: write a temporary file, rename it over the file
 *		5	rename within the directory, and back
 *		5	unlink
 *
 *	-n FILES	(8000)
 *	-o OPERATIONS	(20000)
 *	-r RATE		of them a second (0: as many as it can), BURST at a time; the
 *			schedule is absolute
 *	-s SEED		which files, which operations, and in which order (1)
 *
 * Prints a line of key=value words:
 *
 *	usec		microseconds, of the operations without the making
 *	made_usec	microseconds of the making
 *	missing		operations that found no file, which depends on SEED only
 *
 * The tree stays there.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "number.h"
#include "task.h"

#define FILES_PER_DIR	8
#define FILE_BYTES	2000
#define BURST		16

static const char *top;
static char path[4096], other[4096], bytes[FILE_BYTES];
static uint64_t missing;

/* Sets path to that of a file, and other to the same with a suffix. */
static void name_file(unsigned long file)
{
	unsigned long dir = file / FILES_PER_DIR;

	snprintf(path, sizeof(path), "%s/%lx/%lx/%lx/%lx/%lx.php", top, dir >> 12 & 15,
		 dir >> 8 & 15, dir >> 4 & 15, dir & 15, file);
	if (snprintf(other, sizeof(other), "%s.tmp", path) >= (int)sizeof(other))
		errx(1, "%s: too long", top);
}

/* The directories above path, those that are not there. */
static void make_directories(void)
{
	for (char *slash = path + strlen(top) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(path, 0700) && errno != EEXIST)
			err(1, "%s", path);
		*slash = '/';
	}
}

static void move(const char *from, const char *to)
{
	if (!rename(from, to))
		return;
	if (errno != ENOENT)
		err(1, "%s", from);
	missing++;
}

static void create(void)
{
	int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, bytes, sizeof(bytes)) != sizeof(bytes) || close(fd))
		err(1, "%s", other);
	move(other, path);
}

static void look(void)
{
	struct stat st;

	if (stat(path, &st)) {
		if (errno != ENOENT)
			err(1, "%s", path);
		missing++;
	}
}

static void load(void)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0) {
		if (errno != ENOENT)
			err(1, "%s", path);
		missing++;
		return;
	}
	if (read(fd, bytes, sizeof(bytes)) != sizeof(bytes))
		err(1, "%s", path);
	close(fd);
}

static void delete(void)
{
	if (!unlink(path))
		return;
	if (errno != ENOENT)
		err(1, "%s", path);
	missing++;
}

static void operate(unsigned int percent)
{
	if (percent < 60) {
		look();
	} else if (percent < 80) {
		load();
	} else if (percent < 90) {
		create();
	} else if (percent < 95) {
		move(path, other);
		move(other, path);
	} else {
		delete();
	}
}

int main(int argc, char **argv)
{
	long files = 8000, operations = 20000, rate = 0, seed = 1;
	uint64_t start, made, x;
	int opt;

	while ((opt = getopt(argc, argv, "d:n:o:r:s:")) != -1) {
		switch (opt) {
		case 'd':
			top = optarg;
			break;
		case 'n':
			/* what the levels have names for */
			files = number(optarg, 1, 16 * 16 * 16 * 16 * FILES_PER_DIR);
			break;
		case 'o':
			operations = number(optarg, 1, 1000000000);
			break;
		case 'r':
			rate = number(optarg, 0, 1000000000);
			break;
		case 's':
			seed = number(optarg, 1, 1000000000);
			break;
		default:
			return 2;
		}
	}
	if (!top || optind < argc)
		errx(2, "wrong arguments: see the head of metadata.c");

	if (mkdir(top, 0700) && errno != EEXIST)
		err(1, "%s", top);
	start = now_nsec();
	for (long i = 0; i < files; i++) {
		name_file(i);
		make_directories();
		create();
	}
	made = now_nsec();
	x = 0x9e3779b97f4a7c15 * seed;
	for (long i = 0; i < operations; i++) {
		if (rate && i % BURST == 0)
			sleep_until(made + i * 1000000000 / rate);
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		name_file((x >> 32) * files >> 32);
		operate((x & 0xffffff) % 100);
	}
	printf("usec=%.0f made_usec=%.0f missing=%llu\n", (now_nsec() - made) / 1e3,
	       (made - start) / 1e3, (unsigned long long)missing);
	return fflush(stdout) ? 1 : 0;
}

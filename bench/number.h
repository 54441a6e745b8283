/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NUMBER_H
#define NUMBER_H

#include <err.h>
#include <stdlib.h>

/* TEXT, an argument, is a decimal number from MIN to MAX: else exit with status 2. */
static inline long number(const char *text, long min, long max)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < min || n > max)
		errx(2, "%s: not a number from %ld to %ld", text, min, max);
	return n;
}

#endif

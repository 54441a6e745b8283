/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A histogram of nanoseconds, exact to 1.6 %: 64 buckets of one nanosecond each,
 * then 64 for each power of two.  2^40 ns are 18 minutes.
 */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define SUB_BITS	6
#define SUB_BUCKETS	(1 << SUB_BITS)
#define MAX_BITS	40
#define NR_BUCKETS	((MAX_BITS - SUB_BITS + 1) * SUB_BUCKETS)

static inline size_t bucket_of(uint64_t nsec)
{
	int shift;

	if (nsec < SUB_BUCKETS)
		return nsec;
	if (nsec >> MAX_BITS)
		return NR_BUCKETS - 1;
	shift = 63 - __builtin_clzll(nsec) - SUB_BITS;
	return ((size_t)shift << SUB_BITS) + (nsec >> shift);
}

/* The least of a bucket's nanoseconds. */
static inline uint64_t bucket_start(size_t bucket)
{
	size_t shift = bucket / SUB_BUCKETS;

	if (!shift)
		return bucket;
	shift--;
	return (bucket - (shift << SUB_BITS)) << shift;
}

/* Add the buckets of MORE to those of SUM. */
static inline void add_buckets(uint64_t *sum, const uint64_t *more)
{
	for (size_t i = 0; i < NR_BUCKETS; i++)
		sum[i] += more[i];
}

/* The microseconds that all but the slowest "slower" took at the most. */
static inline double quantile(const uint64_t *buckets, uint64_t slower)
{
	size_t bucket = NR_BUCKETS - 1;

	for (uint64_t seen = buckets[bucket]; seen <= slower && bucket; )
		seen += buckets[--bucket];
	return bucket_start(bucket) / 1e3;
}

#endif

# SPDX-License-Identifier: GPL-2.0-only
"""What would be left of the flushes, and of their time, with one flush for a pass.

Every figure is a range.  Its ends:

  flushes   a pass of reclaim that flushed today flushes once, or twice: for folios that were
            clean, for a task that waits for one, or before the CPU is given up.  A pass over
            more than 512 pages takes one more for each 512.  Passes are counted in a sample:
            three standard errors less, and more.  Where they cannot be seen, from 512 pages for
            a flush to 32, the length of a pass of the LRUs
  cost      of a flush: what the fastest round took longer with other CPUs in the address
            space, up to what rounds did on average.  By MADV_DONTNEED, up to twice that: on the
            machine in results/machines reclaim's flush took up to so much longer
  IPIs      reclaim's flushes interrupt as many CPUs as all flushes do, on average
"""
PASS = (512, 32)        # pages of a flush, where passes are not seen: best, worst
TWICE = 2               # flushes of a pass, and costs of MADV_DONTNEED, at worst
QUIET = 10              # pages a second; less is no reclaim to speak of
LEAST = 0.001           # share of the CPU time that is noise on any machine
HOURS = 8766            # of a year


def ratio(value, by):
    """None where there is nothing to divide by."""
    return value / by if by else None


def needed(flushes, passes):
    """Flushes with batching, (best, worst), of those of one reclaimer in the sample.  passes:
    those that its passes need at best, 0 if none was seen, and how far that may be off."""
    count, error = passes
    if not flushes:
        return 0, 0
    if not count:
        return tuple(flushes / pages for pages in PASS)
    return min(flushes, max(count - error, 0)), min(flushes, TWICE * (count + error))


def at(points, others, place):
    """us with so many other CPUs, by straight lines between the points."""
    points = [(point['others'], point['us'][place]) for point in points]
    for (low, first), (high, last) in zip(points, points[1:]):
        if others <= high:
            return first + (last - first) * (others - low) / (high - low)
    return points[-1][1]


def flush_us(cost, others):
    """What a flush costs its sender, (low, high) us; None where that was not measured."""
    points = cost['points']
    if len(points) < 2 or points[0]['others']:
        return None
    ends = sorted(max(at(points, others, place) - points[0]['us'][place], 0) for place in (0, 2))
    if cost['method'] == 'MADV_DONTNEED':
        ends[1] *= TWICE
    return ends


def less(now, saved):
    """(low, high) of what is left of now."""
    return [max(now - end, 0) for end in sorted(saved, reverse=True)]


def of_reclaimer(seen, pages_us):
    """What becomes of one reclaimer: {'flushes_per_page', 'after', 'us_per_page', 'us_after'}."""
    flushes, pages, cost = seen['flushes'], seen['pages'], seen['flush_us']
    after = needed(flushes, seen['needed'])
    found = {'share_left': [ratio(end, flushes) for end in after],
             'flushes_per_page': ratio(flushes, pages),
             'flushes_per_page_after': [ratio(end, pages) for end in after] if pages else None,
             'us_per_page': pages_us, 'us_per_page_after': None}
    if pages_us is not None and pages and cost:
        saved = [(flushes - after[1]) / pages * cost[0], (flushes - after[0]) / pages * cost[1]]
        found['us_per_page_after'] = less(pages_us, saved)
    return found


def estimate(seen):
    """seen: what bench/watch saw: 'cpus', 'flushes_per_second', 'ipis_per_second', 'sender_counted'
    (True if those have the sender, too), 'sample'
    {origin: flushes}, 'needed' {reclaimer: (flushes at best, error)},
    'pages' {reclaimer: of the sample}, 'us_per_page'
    {reclaimer: us}, 'cost' as of live.flushcost, 'noise' and 'pages_per_second'."""
    sample, total = seen['sample'], sum(seen['sample'].values())
    others = (ratio(seen['ipis_per_second'], seen['flushes_per_second']) or 0) - seen['sender_counted']
    others = min(max(others, 1), max(seen['cpus'] - 1, 1))
    cost, lost = flush_us(seen['cost'], others), seen['cost']['victim_us']
    by, mine, left = {}, 0, [0, 0]
    for origin, flushes in sample.items():
        kind, _, who = origin.partition(': ')
        if kind != 'reclaim':
            continue
        mine += flushes
        left = [sum(pair) for pair in zip(left, needed(flushes, seen['needed'].get(who, (0, 0))))]
        by[who] = of_reclaimer({'flushes': flushes, 'pages': seen['pages'].get(who, 0),
                                'needed': seen['needed'].get(who, (0, 0)), 'flush_us': cost},
                               seen['us_per_page'].get(who))
    share = ratio(mine, total) or 0
    found = {'cpus_interrupted': others, 'flush_us': cost, 'victim_us': lost,
             'reclaim_share_of_flushes': share, 'reclaimers': by,
             'ipis_left': [ratio(total - mine + end, total) for end in left] if total else None,
             'cpu_share': None, 'cpu_share_left': None, 'saved': None}
    if cost and total:
        rate = seen['flushes_per_second'] * share
        each = [cost[0] + (lost or 0) * others, cost[1] + (lost or 0) * others]
        found['cpu_share'] = [min(rate * end / 1e6 / seen['cpus'], 1) for end in each]
        kept = [ratio(end, mine) or 0 for end in left]
        found['cpu_share_left'] = [kept[0] * found['cpu_share'][0], kept[1] * found['cpu_share'][1]]
        found['saved'] = [(1 - kept[1]) * found['cpu_share'][0], (1 - kept[0]) * found['cpu_share'][1]]
    found['noise'] = max(seen['noise'], LEAST)
    found['verdict'] = verdict(seen, found)
    return found


def percent(ends):
    """A range of shares, in words."""
    return f'{100 * ends[0]:.2g} .. {100 * ends[1]:.2g} %'


def verdict(seen, found):
    """In one sentence."""
    if seen['pages_per_second'] < QUIET:
        return (f'This machine is not under reclaim: {seen["pages_per_second"]:.1f} pages a second. '
                'Batching would bring nothing now.')
    if not sum(seen['sample'].values()):
        return 'Memory is reclaimed, and no flush to another CPU was seen: nothing to batch.'
    if not found['saved']:
        return ('What a flush costs could not be measured; of the flushes to other CPUs, '
                f'{percent(found["ipis_left"])} would be left.')
    if found['saved'][1] < found['noise']:
        return (f'Batching would save less than the noise: at most {100 * found["saved"][1]:.2g} % '
                f'of the CPU time, and {100 * found["noise"]:.2g} % cannot be told from chance.')
    return (f'Batching would save {percent(found["saved"])} of the CPU time of this machine; '
            f'{percent(found["ipis_left"])} of its TLB IPIs would be left.')


def money(saved, per_hour):
    """EUR a year, (low, high), of a machine that is always like this."""
    return [end * per_hour * HOURS for end in saved]

# SPDX-License-Identifier: GPL-2.0-only
"""The page that bench/watch shows."""
import mmap
import shutil

from live.estimate import percent

CLEAR = '\033[H\033[J'  # ECMA-48: to the top, and erase what is below


def number(value):
    """Three digits, without an exponent."""
    return f'{value:.3g}' if value < 1000 else f'{value:.0f}'


def between(ends, unit=''):
    """A range."""
    return f'{number(ends[0])} .. {number(ends[1])}{unit}'


def reclaim_lines(found):
    """Rates, and who did it."""
    reclaim = found['reclaim']
    counted = reclaim['by_counter']
    words = [f'{name.removeprefix("pgsteal_")} {number(counted[name])}' for name in counted
             if name.startswith('pgsteal_') and not name.endswith(('_anon', '_file'))]
    scanned = sum(counted.get(f'pgscan_{what}', 0) for what in ('anon', 'file'))
    yield (f'reclaim     {number(scanned)} pages/s scanned, {number(reclaim["reclaimed"])} reclaimed, '
           f'{number(reclaim["swapped_out"])} swapped out, {number(reclaim["swapped_in"])} in')
    if words:
        yield f'            by {", ".join(words)}'
    if reclaim['psi_share']:
        yield ('            waiting for memory: ' + ', '.join(
            f'{kind} {100 * share:.1f} % of the time' for kind, share in reclaim['psi_share'].items()))
    for who, usec in reclaim['us_per_page'].items():
        yield f'            {who}: {number(usec)} us for a page'


def stall_lines(found):
    """Direct reclaim and compaction."""
    if not found['stalls']:
        yield 'stalls      none: no task was held up by reclaim or compaction'
    for kind, row in found['stalls'].items():
        yield (f'stalls      {kind}: {row["count"]}, p50 {number(row["p50"])} us, '
               f'p99 {number(row["p99"])} us, longest {number(row["max"])} us')
        for task, part in list(row['tasks'].items())[:3]:
            yield (f'            {task}: {part["count"]}, {number(part["us"] / 1000)} ms in all, '
                   f'p50 {number(part["p50"])} us, p99 {number(part["p99"])} us, '
                   f'longest {number(part["max"])} us')


def memory_lines(found):
    """Free memory."""
    memory = found['memory']
    for zone in memory['zones']:
        index = zone['fragmentation_index']
        free = sum(count << order for order, count in enumerate(zone['free_blocks']))
        yield (f'free        node {zone["node"]} {zone["zone"]}: {number(free * mmap.PAGESIZE / (1 << 20))} MiB, '
               f'unusable for a huge page {100 * zone["unusable_index"]:.0f} %'
               + ('' if index < 0 else f', fragmentation index {index:.2f}'))
        yield '            blocks by order: ' + ' '.join(map(str, zone['free_blocks']))
    yield (f'            min_free_kbytes is {memory["min_free_percent"]} % of the memory, '
           f'swap free {memory["swap_free_kib"] // 1024} of {memory["swap_total_kib"] // 1024} MiB')


def flush_lines(found):
    """TLB."""
    tlb, total = found['tlb'], sum(found['tlb']['by_origin'].values())
    each = tlb['ipis_per_page_swapped_out']
    yield (f'TLB         {number(tlb["ipis_per_second"])} IPIs/s received, '
           f'{number(tlb["flushes_per_second"])} flushes/s sent'
           + (f', {number(each)} IPIs for a page swapped out' if each is not None else ''))
    busiest = sorted(enumerate(tlb['ipis_by_cpu']), key=lambda pair: -pair[1])[:6]
    if busiest:
        yield '            IPIs/s by CPU: ' + ', '.join(
            f'{cpu}: {number(rate)}' for cpu, rate in busiest)
    sizes = {'all' if pages < 0 else pages: count for pages, count in tlb['pages_per_flush'].items()}
    for title, rows in (('from', tlb['by_origin']), ('task', tlb['by_task']), ('pages a flush', sizes)):
        for name, count in sorted(rows.items(), key=lambda item: -item[1])[:5]:
            yield f'            {title} {name}: {100 * count / total:.1f} %'
    yield (f'            {tlb["sampled_events"]} events seen in {tlb["windows"]} windows: flushes in '
           f'{number(tlb["sampled_seconds"])} s, passes in {number(tlb["sampled_seconds_of_passes"])} of '
           f'{number(found["seconds"])} s; {found["lost_events"]} events lost, '
           f'{tlb["spoilt_windows"]} windows spoilt')


def estimate_lines(found):
    """The estimate."""
    guess = found['estimate']
    if guess['flush_us']:
        method = found['flush_cost']['method']
        lost = guess['victim_us']
        yield (f'a flush     costs its sender {between(guess["flush_us"], " us")} ({method})'
               + (f', each interrupted CPU {number(lost)} us' if lost is not None else '')
               + f'; it interrupts {number(guess["cpus_interrupted"])} CPUs')
    if guess['cpu_share']:
        yield f'now         {percent(guess["cpu_share"])} of the CPU time goes into reclaim\'s flushes'
        yield f'batched     {percent(guess["cpu_share_left"])} would'
    for who, row in guess['reclaimers'].items():
        words = f'            {who}: {between([100 * end for end in row["share_left"]])} % of its flushes left'
        if row['us_per_page_after']:
            words += (f', {number(row["us_per_page"])} us for a page now, then '
                      f'{between(row["us_per_page_after"])}')
        yield words
    if guess.get('eur_per_year'):
        yield f'money       {between(guess["eur_per_year"])} EUR a year, if it is always like this'
    yield guess['verdict']


def lines(found):
    """All of the page."""
    yield f'{found["seconds"]:.0f} s on Linux {found["kernel"]}, {found["cpus"]} CPUs'
    for part in (reclaim_lines, stall_lines, memory_lines, flush_lines, estimate_lines):
        yield from part(found)
    for note in found['not_seen']:
        yield f'note: {note}'
    if found['own_cpu_share'] is not None:
        yield f'note: this took {100 * found["own_cpu_share"]:.2f} % of the CPU time itself.'


class Screen:
    """A terminal, or, where there is none, nothing until the end."""

    def __init__(self, file):
        self.file = file if file.isatty() else None

    def say(self, words):
        """A line."""
        if self.file:
            print(f'watch: {words}', file=self.file, flush=True)

    def show(self, result):
        """The page of what result() returns, in place of the last."""
        if self.file:
            found = result()
            size = shutil.get_terminal_size()
            shown = [line[:size.columns - 1] for line in lines(found)][:size.lines - 1]
            print(CLEAR + '\n'.join(shown), file=self.file, flush=True)

    def end(self):
        """For the last page."""
        if self.file:
            print(CLEAR, end='', file=self.file, flush=True)

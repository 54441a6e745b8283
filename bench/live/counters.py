# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel counts by itself: no tracing.  Names are those of /proc."""
import functools
import os
import re
import time

COMPACT_ORDER = 9  # that of a huge page of 2 MiB, for the fragmentation below


def text(path):
    """What a file has, or nothing where this kernel has no such file, or will not say."""
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            return file.read()
    except OSError:
        return ''


def vmstat():
    """{name: count}"""
    pairs = (line.split() for line in text('/proc/vmstat').splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


@functools.cache
def cpu_flags():
    """What x86 CPUs can, by /proc/cpuinfo; nothing elsewhere."""
    found = re.search(r'^flags\s*: (.*)$', text('/proc/cpuinfo'), re.MULTILINE)
    return set(found[1].split()) if found else set()


def flushes_by_ipi():
    """Does a flush of other CPUs' TLBs send IPIs that are counted?"""
    return bool(tlb_ipis()) and 'invlpgb' not in cpu_flags()


@functools.cache
def sender_counted():
    """Is a flush that reclaim sends counted for the CPU that sends it, too, as if it were
    interrupted?  Before Linux 5.13, 4ce94eabac16 ("x86/mm/tlb: Flush remote and local TLBs
    concurrently")."""
    return tuple(int(word) for word in re.findall(r'\d+', os.uname().release)[:2]) < (5, 13)


def tlb_ipis():
    """TLB shootdowns received, by CPU; nothing where the kernel counts none (arm64)."""
    for line in text('/proc/interrupts').splitlines():
        words = line.split()
        if words and words[0] == 'TLB:':
            counts = []
            for word in words[1:]:
                if not word.isdigit():
                    break
                counts.append(int(word))
            return counts
    return []


def psi():
    """{'some': us, 'full': us} of stalls for memory; nothing where PSI is off."""
    found = {}
    for line in text('/proc/pressure/memory').splitlines():
        kind, *words = line.split()
        found[kind] = int(dict(word.split('=') for word in words)['total'])
    return found


@functools.cache
def kswapd_threads():
    """Their PIDs; they live as long as their node."""
    return [pid for pid in filter(str.isdigit, os.listdir('/proc'))
            if text(f'/proc/{pid}/comm').startswith('kswapd')]


def kswapd_seconds():
    """CPU time of all kswapd threads; None without schedstat."""
    counts = [text(f'/proc/{pid}/schedstat').split() for pid in kswapd_threads()]
    return sum(int(words[0]) for words in counts) / 1e9 if all(counts) and counts else None


def cpu_seconds():
    """(busy, all) seconds of all CPUs together."""
    first = text('/proc/stat').partition('\n')[0].split()[1:9]
    ticks = [int(word) for word in first]
    hertz = os.sysconf('SC_CLK_TCK')
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / hertz, sum(ticks) / hertz


def snapshot():
    """All of them, and when."""
    return {'time': time.monotonic(), 'vmstat': vmstat(), 'ipis': tlb_ipis(), 'psi': psi(),
            'kswapd': kswapd_seconds(), 'cpu': cpu_seconds()}


def zones(buddyinfo):
    """[(node, zone, [free blocks of each order]), ...] of the text of /proc/buddyinfo."""
    found = []
    for line in buddyinfo.splitlines():
        head, _, rest = line.partition(', zone')
        words = rest.split()
        found.append((int(head.split()[1]), words[0], [int(word) for word in words[1:]]))
    return found


def unusable(blocks, order):
    """Share of the free memory in blocks smaller than this order, 0 .. 1, as unusable_index
    of the kernel (mm/vmstat.c)."""
    pages = sum(count << size for size, count in enumerate(blocks))
    usable = sum(count << size for size, count in enumerate(blocks) if size >= order)
    return (pages - usable) / pages if pages else 1.0


def fragmentation(blocks, order):
    """Why an allocation of this order would fail, as extfrag_index of the kernel: to 0, memory
    is short; to 1, it is in pieces.  -1: it would not fail."""
    if any(blocks[order:]):
        return -1.0
    total = sum(blocks)
    if not total:
        return 0.0
    pages = sum(count << size for size, count in enumerate(blocks))
    # The kernel divides thousandths, and whole numbers.
    return (1000 - (1000 + pages * 1000 // (1 << order)) // total) / 1000


def memory():
    """Free memory by order, its fragmentation at COMPACT_ORDER, and min_free_kbytes."""
    info = dict(line.split(':') for line in text('/proc/meminfo').splitlines() if ':' in line)
    total = int(info['MemTotal'].split()[0])
    swap = {key: int(info[key].split()[0]) for key in ('SwapTotal', 'SwapFree')}
    min_free = int(text('/proc/sys/vm/min_free_kbytes') or 0)
    listed = [{'node': node, 'zone': zone, 'free_blocks': blocks,
               'unusable_index': round(unusable(blocks, COMPACT_ORDER), 3),
               'fragmentation_index': round(fragmentation(blocks, COMPACT_ORDER), 3)}
              for node, zone, blocks in zones(text('/proc/buddyinfo'))
              if len(blocks) > COMPACT_ORDER]
    return {'total_kib': total, 'swap_total_kib': swap['SwapTotal'],
            'swap_free_kib': swap['SwapFree'], 'min_free_kib': min_free,
            'min_free_percent': round(100 * min_free / total, 3), 'order': COMPACT_ORDER,
            'zones': listed}

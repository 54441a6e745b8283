// SPDX-License-Identifier: GPL-2.0-only
/*
 * On an unmodified kernel:
 * fix=1	before each call of folio_unlock() in collapse_file(), flush
 *		(what the patch does; elsewhere nothing is pending)
 * delay_us=N	wait before its try_to_unmap_flush(), as if it had been preempted there
 */
#include <linux/module.h>
#include <linux/kprobes.h>
#include <linux/delay.h>
#include <linux/sched.h>
#include <linux/pagemap.h>
#include <asm/text-patching.h>

static bool fix;
module_param(fix, bool, 0444);
static int delay_us;
module_param(delay_us, int, 0644);

static void (*flush)(void);
static struct kprobe sites[48];
static int nr_sites;
static unsigned long fixed, delayed;
module_param(fixed, ulong, 0444);
module_param(delayed, ulong, 0444);

static noinline void delayed_flush(void)
{
	if (delay_us) {
		u64 end = ktime_get_ns() + delay_us * 1000ULL;

		delayed++;
		while (ktime_get_ns() < end)
			cpu_relax();
	}
	flush();
}

static noinline void flush_and_unlock(struct folio *folio)
{
	fixed++;
	flush();
	folio_unlock(folio);
}

static int unlock_hit(struct kprobe *p, struct pt_regs *regs)
{
	int3_emulate_call(regs, regs->ip + 4, (unsigned long)flush_and_unlock);
	return 1;
}

static int flush_hit(struct kprobe *p, struct pt_regs *regs)
{
	int3_emulate_call(regs, regs->ip + 4, (unsigned long)delayed_flush);
	return 1;
}

static void no_optimize(struct kprobe *p, struct pt_regs *regs, unsigned long flags) { }

static unsigned long lookup(const char *name)
{
	struct kprobe p = { .symbol_name = name };
	unsigned long addr;

	if (register_kprobe(&p))
		return 0;
	addr = (unsigned long)p.addr;
	unregister_kprobe(&p);
	/* the probe may be behind an endbr */
	return addr & ~15UL;
}

static int __init ttu_init(void)
{
	unsigned long start = lookup("collapse_file"), unlock = lookup("folio_unlock"), a;
	int err;

	flush = (void *)lookup("try_to_unmap_flush");
	if (!start || !flush || !unlock)
		return -ENOENT;
	for (a = start; a < start + 0x3100 && nr_sites < 48; a++) {
		unsigned long to = (a + 5 + *(s32 *)(a + 1)) & ~15UL;

		if (*(u8 *)a != 0xe8)
			continue;
		if (fix && to == unlock)
			sites[nr_sites].pre_handler = unlock_hit;
		else if (delay_us && to == (unsigned long)flush)
			sites[nr_sites].pre_handler = flush_hit;
		else
			continue;
		sites[nr_sites].addr = (void *)a;
		sites[nr_sites].post_handler = no_optimize;
		err = register_kprobe(&sites[nr_sites]);
		pr_info("ttu: site +%lx, %s: %d\n", a - start, to == unlock ? "unlock" : "flush", err);
		if (!err)
			nr_sites++;
	}
	return nr_sites ? 0 : -ENXIO;
}
module_init(ttu_init);
MODULE_DESCRIPTION("Flush earlier, or later, in collapse_file()");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * round-trips - how long messages on a loopback TCP connection take to come back
 *
 *	round-trips [-w USEC] [-s BYTES]
 *
 * A process sends a message over the loopback device to another, which sends it
 * back, until there is a line on its standard input, or the end of it.
 *
 *	-w USEC		microseconds from one message to the next; the next one
 *			is at once where the last took longer (1000)
 *	-s BYTES	size of a message (1024)
 *
 * Prints "ready", and in the end a line of key=value words; times are
 * microseconds, exact to 1.6 %:
 *
 *	trips		messages that came back
 *	p50 p99 p999	percentiles
 *	max		the slowest
 *	stalls		that took 200 ms, the least time-out of a retransmission,
 *			or longer
 *	near		of them, percent, that the other process answered on the
 *			CPU that had sent them
 *	near_p50 far_p50	the median of those, and of the others
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "number.h"
#include "task.h"

#define STALL_NSEC	200000000

static char message[65536];
static uint64_t near[NR_BUCKETS], far[NR_BUCKETS];
static uint64_t trips, nr_near, stalls, slowest;

/* The CPU that this runs on, as a message has it: in one byte. */
static char this_cpu(void)
{
	return (char)sched_getcpu();
}

/* Wait until then; false if there is input, or the end of it, before. */
static bool wait_until(uint64_t nsec)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };
	uint64_t now = now_nsec();
	struct timespec left = {};

	if (nsec > now) {
		left.tv_sec = (nsec - now) / 1000000000;
		left.tv_nsec = (nsec - now) % 1000000000;
	}
	switch (ppoll(&input, 1, &left, NULL)) {
	case -1:
		err(1, "ppoll");
	case 0:
		return true;
	default:
		return false;
	}
}

/* False at the end of the connection. */
static bool receive(int fd, size_t size)
{
	for (ssize_t n; size; size -= n) {
		n = recv(fd, message, size, MSG_WAITALL);
		if (n < 0)
			err(1, "recv");
		if (!n)
			return false;
	}
	return true;
}

static void send_all(int fd, size_t size)
{
	/* a blocking socket takes it all */
	if (send(fd, message, size, MSG_NOSIGNAL) != (ssize_t)size)
		err(1, "send");
}

static void no_delay(int fd)
{
	int yes = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)))
		err(1, "TCP_NODELAY");
}

static void echo(int listener, size_t size)
{
	int fd;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		err(1, "prctl");
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		err(1, "accept");
	no_delay(fd);
	while (receive(fd, size)) {
		message[0] = this_cpu();
		send_all(fd, size);
	}
}

/* The client's end of a connection to a process that echoes. */
static int connect_to_echo(size_t size)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (listener < 0 || fd < 0 || bind(listener, (void *)&address, length) ||
	    listen(listener, 1) || getsockname(listener, (void *)&address, &length))
		err(1, "cannot listen on the loopback device");
	switch (fork()) {
	case -1:
		err(1, "fork");
	case 0:
		close(fd);
		echo(listener, size);
		_exit(0);
	}
	close(listener);
	if (connect(fd, (void *)&address, length))
		err(1, "connect");
	no_delay(fd);
	return fd;
}

/* Send a message and wait for it; count how long that takes. */
static void trip(int fd, size_t size)
{
	char cpu = this_cpu();
	uint64_t start = now_nsec(), nsec;
	bool is_near;

	send_all(fd, size);
	if (!receive(fd, size))
		errx(1, "the other end has gone");
	nsec = now_nsec() - start;
	is_near = message[0] == cpu;
	trips++;
	nr_near += is_near;
	(is_near ? near : far)[bucket_of(nsec)]++;
	stalls += nsec >= STALL_NSEC;
	if (nsec > slowest)
		slowest = nsec;
}

static void report(void)
{
	static uint64_t all[NR_BUCKETS];

	add_buckets(all, near);
	add_buckets(all, far);
	printf("trips=%llu p50=%.3f p99=%.3f p999=%.3f max=%.3f stalls=%llu",
	       (unsigned long long)trips, quantile(all, trips / 2),
	       quantile(all, trips / 100), quantile(all, trips / 1000),
	       slowest / 1e3, (unsigned long long)stalls);
	printf(" near=%.1f near_p50=%.3f far_p50=%.3f\n",
	       trips ? nr_near * 100.0 / trips : 0, quantile(near, nr_near / 2),
	       quantile(far, (trips - nr_near) / 2));
}

int main(int argc, char **argv)
{
	long wait_usec = 1000, size = 1024;
	uint64_t start;
	int opt, fd;

	while ((opt = getopt(argc, argv, "w:s:")) != -1) {
		switch (opt) {
		case 'w':
			wait_usec = number(optarg, 0, 1000000);
			break;
		case 's':
			size = number(optarg, 1, sizeof(message));
			break;
		default:
			return 2;
		}
	}
	if (optind < argc)
		errx(2, "wrong arguments: see the head of round-trips.c");

	fd = connect_to_echo(size);
	puts("ready");
	fflush(stdout);
	start = now_nsec();
	while (wait_until(start + wait_usec * 1000)) {
		start = now_nsec();
		trip(fd, size);
	}
	report();
	return fflush(stdout) ? 1 : 0;
}

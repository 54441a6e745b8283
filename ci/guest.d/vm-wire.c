// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two ends of the wire between ci/vm-run and its guest.
 *
 *	vm-wire guest PORT COMMAND [ARG...]
 *		runs COMMAND and sends what it prints, then its status, through
 *		the virtio serial port PORT; returns once the host has it all.
 *	vm-wire host RESULT SECONDS QEMU [ARG...]
 *		runs QEMU with the wire as file descriptor 3 and prints what
 *		comes.  When QEMU has ended, writes one line to the file RESULT:
 *			exit STATUS	COMMAND ended so, and the guest too
 *			timeout		SECONDS went by; QEMU was killed
 *			died		the guest ended while COMMAND ran
 *			unstarted	the guest ended before COMMAND ran
 *			qemu STATUS	QEMU failed with STATUS
 *		QEMU is killed whenever this program ends.
 *
 * One stream of frames carries both outputs, so that their order is kept and
 * the status, the last frame, proves that nothing is missing.  The host answers
 * it with one byte: only then may the guest power off, which discards what the
 * port still holds.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HARNESS_ERROR	125	/* as documented in vm-run */
#define WIRE_FD		3	/* in QEMU */
#define DATA_MAX	32768

/* Frames of STDOUT and STDERR are numbered as the file descriptors are. */
enum frame_type { FRAME_STARTED, FRAME_STDOUT, FRAME_STDERR, FRAME_STATUS };

/* Both ends are little-endian. */
struct frame {
	uint32_t type;
	uint32_t len;
	unsigned char data[DATA_MAX];
};

#define HEADER_SIZE	offsetof(struct frame, data)

static void write_all(int fd, const void *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			err(HARNESS_ERROR, "cannot write to file descriptor %d", fd);
		}
		buf = (const char *)buf + n;
		len -= n;
	}
}

static int shell_status(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The guest's end */

static void send_frame(int port, struct frame *frame, enum frame_type type, size_t len)
{
	frame->type = type;
	frame->len = len;
	write_all(port, frame, HEADER_SIZE + len);
}

/* Send one frame of what fd holds; returns its length, 0 or less at the end. */
static ssize_t forward(int port, struct frame *frame, enum frame_type type, int fd)
{
	ssize_t n = read(fd, frame->data, sizeof(frame->data));

	if (n > 0)
		send_frame(port, frame, type, n);
	return n;
}

/* Send what the pipe holds now: others than the command may still write. */
static void drain(int port, struct frame *frame, enum frame_type type, int fd)
{
	int left;

	if (ioctl(fd, FIONREAD, &left))
		err(HARNESS_ERROR, "FIONREAD");
	while (left > 0) {
		ssize_t n = forward(port, frame, type, fd);

		if (n <= 0)
			break;
		left -= n;
	}
}

/* The port appears some time after its device: wait for it, but not for ever. */
static int open_port(const char *path)
{
	for (int ms = 0; ms < 10000; ms++) {
		int port = open(path, O_RDWR | O_CLOEXEC);

		if (port >= 0)
			return port;
		if (errno != ENOENT)
			break;
		usleep(1000);
	}
	err(HARNESS_ERROR, "%s", path);
}

/* The command may eat all memory: neither swap nor kill this process. */
static void pin_self(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		err(HARNESS_ERROR, "/proc/self/oom_score_adj");
	write_all(fd, "-1000", 5);
	close(fd);
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		err(HARNESS_ERROR, "mlockall");
}

static pid_t start_command(char **argv, int out, int err_fd)
{
	pid_t pid = fork();
	sigset_t none;

	if (pid < 0)
		err(HARNESS_ERROR, "fork");
	if (pid)
		return pid;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close(STDIN_FILENO);
	if (open("/dev/null", O_RDONLY) != STDIN_FILENO ||
	    dup2(out, STDOUT_FILENO) < 0 || dup2(err_fd, STDERR_FILENO) < 0)
		err(HARNESS_ERROR, "standard streams");
	execvp(argv[0], argv);
	err(127, "%s", argv[0]);
}

static void nonblocking_pipe(int fds[2])
{
	if (pipe2(fds, O_CLOEXEC) || fcntl(fds[0], F_SETFL, O_NONBLOCK))
		err(HARNESS_ERROR, "pipe");
}

static int guest(const char *path, char **argv)
{
	static struct frame frame;
	int port = open_port(path);
	int out[2], err_pipe[2], status;
	sigset_t child;
	pid_t pid;

	send_frame(port, &frame, FRAME_STARTED, 0);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	nonblocking_pipe(out);
	nonblocking_pipe(err_pipe);
	pid = start_command(argv, out[1], err_pipe[1]);
	close(out[1]);
	close(err_pipe[1]);
	pin_self();

	struct pollfd fds[] = {
		{ .fd = out[0], .events = POLLIN },
		{ .fd = err_pipe[0], .events = POLLIN },
		{ .fd = signalfd(-1, &child, SFD_CLOEXEC), .events = POLLIN },
	};

	/* A child that outlives the command may keep the pipes open for ever. */
	while (!fds[2].revents) {
		if (poll(fds, 3, -1) < 0)
			err(HARNESS_ERROR, "poll");
		for (int i = 0; i < 2; i++) {
			if (fds[i].revents &&
			    forward(port, &frame, FRAME_STDOUT + i, fds[i].fd) <= 0)
				fds[i].fd = -1;
		}
	}
	waitpid(pid, &status, 0);
	drain(port, &frame, FRAME_STDOUT, out[0]);
	drain(port, &frame, FRAME_STDERR, err_pipe[0]);

	frame.data[0] = shell_status(status);
	send_frame(port, &frame, FRAME_STATUS, 1);
	if (read(port, frame.data, 1) != 1)
		err(HARNESS_ERROR, "%s: no answer", path);
	return 0;
}

/* The host's end */

static pid_t start_qemu(char **argv, int *wire)
{
	int fds[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		err(HARNESS_ERROR, "socketpair");
	pid = fork();
	if (pid < 0)
		err(HARNESS_ERROR, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(fds[1], WIRE_FD) < 0)
			err(HARNESS_ERROR, "dup2");
		execvp(argv[0], argv);
		err(HARNESS_ERROR, "%s", argv[0]);
	}
	close(fds[1]);
	*wire = fds[0];
	return pid;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

enum read_result { READ_ALL, READ_END, READ_TIMEOUT };

static enum read_result read_all(int fd, void *buf, size_t len, int64_t deadline)
{
	while (len) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		int64_t left = deadline - now_ms();
		ssize_t n;

		if (left <= 0)
			return READ_TIMEOUT;
		if (!poll(&pfd, 1, left < INT_MAX ? left : INT_MAX))
			continue;
		n = read(fd, buf, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return READ_END;
		buf = (char *)buf + n;
		len -= n;
	}
	return READ_ALL;
}

static enum read_result read_frame(int fd, struct frame *frame, int64_t deadline)
{
	enum read_result result = read_all(fd, frame, HEADER_SIZE, deadline);

	if (result != READ_ALL)
		return result;
	if (frame->len > sizeof(frame->data))
		errx(HARNESS_ERROR, "the guest sent a frame of %u bytes", frame->len);
	return read_all(fd, frame->data, frame->len, deadline);
}

static int host(const char *result_path, const char *seconds, char **argv)
{
	static struct frame frame;
	int64_t deadline = now_ms() + atoll(seconds) * 1000;
	bool started = false;
	int wire, command_status = -1, qemu_status;
	enum read_result result;
	FILE *file;
	pid_t qemu;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	qemu = start_qemu(argv, &wire);

	while ((result = read_frame(wire, &frame, deadline)) == READ_ALL) {
		switch (frame.type) {
		case FRAME_STARTED:
			started = true;
			break;
		case FRAME_STDOUT:
		case FRAME_STDERR:
			write_all(frame.type, frame.data, frame.len);
			break;
		case FRAME_STATUS:
			command_status = frame.data[0];
			send(wire, "", 1, MSG_NOSIGNAL);
			break;
		}
	}
	if (result == READ_TIMEOUT)
		kill(qemu, SIGKILL);
	waitpid(qemu, &qemu_status, 0);

	file = fopen(result_path, "w");
	if (!file)
		err(HARNESS_ERROR, "%s", result_path);
	if (result == READ_TIMEOUT)
		fprintf(file, "timeout\n");
	else if (qemu_status)
		fprintf(file, "qemu %d\n", shell_status(qemu_status));
	else if (command_status >= 0)
		fprintf(file, "exit %d\n", command_status);
	else
		fprintf(file, "%s\n", started ? "died" : "unstarted");
	if (fclose(file))
		err(HARNESS_ERROR, "%s", result_path);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 3 && !strcmp(argv[1], "guest"))
		return guest(argv[2], argv + 3);
	if (argc > 4 && !strcmp(argv[1], "host"))
		return host(argv[2], argv[3], argv + 4);
	errx(HARNESS_ERROR, "see the head of vm-wire.c");
}

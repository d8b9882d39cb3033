/* load: sends mail over SMTP as fast as it is answered, and prints what it saw as one line of JSON.
 *
 *     load PORT SESSIONS MESSAGES PER_SESSION OCTETS DOMAIN MAILBOXES [FILE]
 *
 * SESSIONS connections to 127.0.0.1:PORT at once; each sends PER_SESSION messages of OCTETS octets, one command at a
 * time, then QUIT, and is followed by the next until MESSAGES are sent, in turn to u0@DOMAIN, u1@DOMAIN, … of
 * MAILBOXES. With FILE its octets are sent as they are, dot-stuffed and with the final dot. Any reply but the expected one ends the run: figures with refused mail in them are none.
 *
 * One thread on epoll, so that it takes as little as may be of the processors that the server needs too. Sockets
 * block when written: what is sent at once is small against a socket's buffer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum state { GREETING, EHLO, MAIL, RCPT, DATA, CONTENT, QUIT };

/* what ends each state well */
static const char *expected[] = {"220", "250", "250", "250", "354", "250", "221"};

struct session {
    int fd;
    enum state state;
    long sent;          /* messages sent in this session */
    double began;       /* when the present message's MAIL was sent */
    char line[2048];    /* the reply as far as it has come */
    size_t length;
};

static int port, mailboxes, poller;
static long messages, per_session, begun, accepted, live;
static const char *domain;
static char *content;
static size_t content_length;
static double *latency;

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void send_all(struct session *session, const char *octets, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(session->fd, octets, length, MSG_NOSIGNAL);
        if (sent < 0)
            die("send: %s", strerror(errno));
        octets += sent;
        length -= sent;
    }
}

static void say(struct session *session, enum state state, const char *format, ...)
{
    char command[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    session->state = state;
    send_all(session, command, length);
}

static void open_session(struct session *session)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    session->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (session->fd < 0 || connect(session->fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("connect: %s", strerror(errno));
    setsockopt(session->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    session->state = GREETING;
    session->sent = 0;
    session->length = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};
    epoll_ctl(poller, EPOLL_CTL_ADD, session->fd, &event);
    live++;
}

static void close_session(struct session *session)
{
    close(session->fd);
    live--;
    if (begun < messages)
        open_session(session);
}

static void next_message(struct session *session)
{
    if (begun == messages || session->sent == per_session) {
        say(session, QUIT, "QUIT\r\n");
        return;
    }
    begun++;
    session->sent++;
    session->began = now();
    say(session, MAIL, "MAIL FROM:<sender@client.test>\r\n");
}

/* answer a whole reply, of which `line` is the last line; false when the session is over */
static int advance(struct session *session, const char *line)
{
    static long turn;
    if (strncmp(line, expected[session->state], 3) != 0)
        die("in state %d: %s", session->state, line);
    switch (session->state) {
    case GREETING:
        say(session, EHLO, "EHLO client.test\r\n");
        break;
    case EHLO:
        next_message(session);
        break;
    case MAIL:
        say(session, RCPT, "RCPT TO:<u%ld@%s>\r\n", turn++ % mailboxes, domain);
        break;
    case RCPT:
        say(session, DATA, "DATA\r\n");
        break;
    case DATA:
        session->state = CONTENT;
        send_all(session, content, content_length);
        break;
    case CONTENT:
        latency[accepted++] = now() - session->began;
        next_message(session);
        break;
    case QUIT:
        close_session(session);
        return 0;
    }
    return 1;
}

static void receive(struct session *session)
{
    char octets[4096];
    ssize_t length = recv(session->fd, octets, sizeof octets, MSG_DONTWAIT);
    if (length <= 0) {
        if (length < 0 && errno == EAGAIN)
            return;
        die("connection lost in state %d", session->state);
    }
    for (ssize_t i = 0; i < length; i++) {
        if (octets[i] != '\n') {
            if (session->length < sizeof session->line - 1)
                session->line[session->length++] = octets[i];
            continue;
        }
        session->line[session->length] = 0;
        session->length = 0;
        if (session->line[3] != '-' && !advance(session, session->line))
            return;
    }
}

/* a header and lines of 72 characters, with the final dot */
static void compose(size_t octets)
{
    static const char head[] = "From: <sender@client.test>\r\nTo: <list@client.test>\r\nSubject: benchmark message\r\n"
                               "Date: Sun, 22 Nov 2026 20:00:00 +0000\r\nMessage-ID: <benchmark@client.test>\r\n\r\n";
    if (octets < sizeof head)
        die("a message has at least %zu octets", sizeof head);
    content = malloc(octets + 3);
    memset(content, 'x', octets);
    memcpy(content, head, sizeof head - 1);
    for (size_t end = sizeof head - 1 + 74; end < octets - 2; end += 74)
        memcpy(content + end - 2, "\r\n", 2);
    memcpy(content + octets - 2, "\r\n.\r\n", 5);
    content_length = octets + 3;
}

/* the content of a file, as it is */
static void take(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die("%s: %s", path, strerror(errno));
    content = malloc(1 << 24);
    content_length = fread(content, 1, 1 << 24, file);
    fclose(file);
}

static int ascending(const void *left, const void *right)
{
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

int main(int count, char **arguments)
{
    if (count != 8 && count != 9)
        die("usage: load PORT SESSIONS MESSAGES PER_SESSION OCTETS DOMAIN MAILBOXES [FILE]");
    port = atoi(arguments[1]);
    long sessions = atol(arguments[2]);
    messages = atol(arguments[3]);
    per_session = atol(arguments[4]);
    if (count == 9)
        take(arguments[8]);
    else
        compose(atol(arguments[5]));
    domain = arguments[6];
    mailboxes = atoi(arguments[7]);
    latency = calloc(messages, sizeof *latency);
    struct session *all = calloc(sessions, sizeof *all);
    poller = epoll_create1(EPOLL_CLOEXEC);

    double start = now(), end = start;
    for (long i = 0; i < sessions && i < messages; i++)
        open_session(&all[i]);
    while (live > 0) {
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, 60000);
        if (ready == 0)
            die("no reply for 60 s");
        for (int i = 0; i < ready; i++)
            receive(events[i].data.ptr);
        if (accepted == messages && end == start)
            end = now();
    }

    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    qsort(latency, messages, sizeof *latency, ascending);
    printf("{\"accepted\": %ld, \"seconds\": %.4f, \"load_cpu_seconds\": %.3f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
           accepted, end - start, cpu, latency[messages / 2] * 1e3, latency[messages * 99 / 100] * 1e3);
    return 0;
}

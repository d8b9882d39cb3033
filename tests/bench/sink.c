/* sink: takes all mail on 127.0.0.1:PORT, keeps none, and counts it in shared memory.
 *
 *     sink PORT COUNTER
 *
 * The file COUNTER holds how many messages were taken, as a number of 64 bits. It prints a line when it listens, and
 * ends when standard input does. One thread on epoll.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct session {
    int fd;
    int data;           /* in the content */
    size_t matched;     /* octets of END that were seen last */
    char line[1024];
    size_t length;
    char replies[16384];
    size_t replied;
};

static const char END[] = "\r\n.\r\n";
static volatile uint64_t *taken;

static void reply(struct session *session, const char *text)
{
    size_t length = strlen(text);
    if (session->replied + length <= sizeof session->replies) {
        memcpy(session->replies + session->replied, text, length);
        session->replied += length;
    }
}

/* take a command; false: it is the last one */
static int command(struct session *session, const char *line)
{
    if (strncasecmp(line, "EHLO", 4) == 0)
        reply(session, "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n");
    else if (strncasecmp(line, "DATA", 4) == 0) {
        session->data = 1;
        session->matched = 2;  /* the line end of DATA */
        reply(session, "354 go on\r\n");
    } else if (strncasecmp(line, "QUIT", 4) == 0) {
        reply(session, "221 2.0.0 bye\r\n");
        return 0;
    } else
        reply(session, "250 2.0.0 fine\r\n");
    return 1;
}

static size_t content(struct session *session, const char *octets, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (session->matched == 0) {
            const char *found = memchr(octets + i, '\r', length - i);
            if (found == NULL)
                return length;
            i = found - octets;
        }
        session->matched = octets[i] == END[session->matched] ? session->matched + 1 : octets[i] == '\r';
        if (session->matched == sizeof END - 1) {
            session->data = 0;
            session->matched = 0;
            ++*taken;
            reply(session, "250 2.0.0 taken\r\n");
            return i + 1;
        }
    }
    return length;
}

/* take what came; false: the session is over */
static int receive(struct session *session)
{
    static char octets[1 << 18];
    ssize_t length = recv(session->fd, octets, sizeof octets, 0);
    if (length <= 0)
        return 0;
    int goes_on = 1;
    for (ssize_t at = 0; at < length && goes_on;) {
        if (session->data) {
            at += content(session, octets + at, length - at);
            continue;
        }
        char c = octets[at++];
        if (c != '\n') {
            if (session->length < sizeof session->line - 1)
                session->line[session->length++] = c;
            continue;
        }
        session->line[session->length] = 0;
        session->length = 0;
        goes_on = command(session, session->line);
    }
    if (session->replied && send(session->fd, session->replies, session->replied, MSG_NOSIGNAL) < 0)
        return 0;
    session->replied = 0;
    return goes_on;
}

int main(int count, char **arguments)
{
    if (count != 3)
        return fputs("usage: sink PORT COUNTER\n", stderr), 1;
    int counter = open(arguments[2], O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (counter < 0 || ftruncate(counter, sizeof *taken) < 0)
        return perror("sink"), 1;
    taken = mmap(NULL, sizeof *taken, PROT_READ | PROT_WRITE, MAP_SHARED, counter, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) < 0 || listen(listening, 4096) < 0)
        return perror("sink"), 1;
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct session outer = {.fd = listening}, input = {.fd = 0};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &outer}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listening, &event);
    event.data.ptr = &input;
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            struct session *session = events[i].data.ptr;
            if (session == &input)
                return 0;
            if (session == &outer) {
                session = calloc(1, sizeof *session);
                session->fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
                setsockopt(session->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                event.data.ptr = session;
                epoll_ctl(poller, EPOLL_CTL_ADD, session->fd, &event);
                reply(session, "220 sink.test ESMTP\r\n");
                send(session->fd, session->replies, session->replied, MSG_NOSIGNAL);
                session->replied = 0;
            } else if (!receive(session)) {
                close(session->fd);
                free(session);
            }
        }
    }
}

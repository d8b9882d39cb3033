/* load: sends mail over SMTP as fast as it is answered, and prints what it saw as one line of JSON.
 *
 *     load -p PORT [-s SESSIONS] [-m MESSAGES] [-k PER_SESSION] [-l OCTETS | -f FILE] [-d DOMAIN] [-u MAILBOXES]
 *          [-t [-r]] [-a LOGIN:PASSWORD] [-F SENDER]
 *     load -p PORT -i IDLE [-t]
 *     load -p PORT -w SECONDS
 *
 * SESSIONS connections to 127.0.0.1:PORT at once, a thread each; a connection sends PER_SESSION messages of OCTETS
 * octets, one command at a time, then QUIT, and is followed by the next until MESSAGES are sent, in turn to u0@DOMAIN,
 * u1@DOMAIN, … of MAILBOXES. With FILE its octets are sent as they are, dot-stuffed and with the final dot. -t: STARTTLS
 * (-r: resuming the session of the connection before), -a: AUTH PLAIN. Any reply but the expected one ends the run:
 * figures with refused mail in them are none.
 *
 * -i: so many sessions are opened up to the reply to EHLO, from addresses of many networks, and held until standard
 * input ends; each line there has the last one say NOOP. -w: one session says NOOP 50 times a second for so long.
 * -R: no more than so many messages begin in a second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct connection {
    int fd;
    SSL *tls;
    char octets[4096];  /* received, and not looked at yet */
    int next, end;
};

static int port, watched, sessions = 20, mailboxes = 20, use_tls, resume;
static long messages = 1000, per_session = 1, octets = 4096, idle, rate;
static const char *domain = "example.test", *sender = "sender@client.test", *login, *file;
static char *content, authentication[512];
static size_t content_length;
static SSL_CTX *tls;
static double *latency, *lasted, first;
static atomic_long taken, ended;

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

static void sleep_until(double time)
{
    struct timespec until = {.tv_sec = (time_t)time, .tv_nsec = (long)((time - (time_t)time) * 1e9)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void send_all(struct connection *peer, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t sent = peer->tls ? SSL_write(peer->tls, data, length > 65536 ? 65536 : length)
                                 : send(peer->fd, data, length, MSG_NOSIGNAL);
        if (sent <= 0)
            die("send: %s", strerror(errno));
        data += sent;
        length -= sent;
    }
}

static char octet(struct connection *peer)
{
    if (peer->next == peer->end) {
        peer->end = peer->tls ? SSL_read(peer->tls, peer->octets, sizeof peer->octets)
                              : (int)recv(peer->fd, peer->octets, sizeof peer->octets, 0);
        peer->next = 0;
        if (peer->end <= 0)
            die("the connection was lost: %s", strerror(errno));
    }
    return peer->octets[peer->next++];
}

/* read a whole reply; any but `code` ends the run */
static void expect(struct connection *peer, const char *code, const char *to)
{
    char line[1024];
    size_t length;
    do {
        length = 0;
        for (char c; (c = octet(peer)) != '\n';)
            if (length < sizeof line - 1)
                line[length++] = c;
        line[length] = 0;
    } while (length > 3 && line[3] == '-');
    if (strncmp(line, code, 3) != 0)
        die("to %s: %s", to, line);
}

static void say(struct connection *peer, const char *code, const char *format, ...)
{
    char command[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    send_all(peer, command, length);
    expect(peer, code, command);
}

static void start_tls(struct connection *peer, SSL_SESSION **known)
{
    say(peer, "220", "STARTTLS\r\n");
    peer->tls = SSL_new(tls);
    SSL_set_fd(peer->tls, peer->fd);
    if (resume && *known)
        SSL_set_session(peer->tls, *known);
    if (SSL_connect(peer->tls) != 1)
        die("no TLS handshake");
    say(peer, "250", "EHLO client.test\r\n");
    if (resume) {
        SSL_SESSION_free(*known);  /* the ticket of TLS 1.3 has come with what was read */
        *known = SSL_get1_session(peer->tls);
    }
}

static void open_connection(struct connection *peer, long number, SSL_SESSION **known)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)}, from = {.sin_family = AF_INET};
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer->tls = NULL;
    peer->next = peer->end = 0;
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (idle) {  /* 50 of each network: no server may refuse so few */
        from.sin_addr.s_addr = htonl(0x7f000000 | (1 + number / 50 / 250) << 16 | (1 + number / 50 % 250) << 8 | (1 + number % 50));
        if (bind(peer->fd, (struct sockaddr *)&from, sizeof from) < 0)
            die("bind: %s", strerror(errno));
    }
    if (peer->fd < 0 || connect(peer->fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect: %s", strerror(errno));
    expect(peer, "220", "the connection");
    say(peer, "250", "EHLO client.test\r\n");
    if (use_tls)
        start_tls(peer, known);
    if (login)
        say(peer, "235", "%s", authentication);
}

static void close_connection(struct connection *peer)
{
    say(peer, "221", "QUIT\r\n");
    if (peer->tls) {
        SSL_set_quiet_shutdown(peer->tls, 1);
        SSL_free(peer->tls);
    }
    close(peer->fd);
}

static void *session(void *unused)
{
    struct connection peer;
    SSL_SESSION *known = NULL;
    double began = 0;
    long sent = 0;
    int opened = 0;
    for (long number; (number = atomic_fetch_add(&taken, 1)) < messages;) {
        if (rate)
            sleep_until(first + (double)number / rate);
        if (!opened) {
            began = now();
            open_connection(&peer, number, &known);
            opened = 1;
            sent = 0;
        }
        double start = now();
        say(&peer, "250", "MAIL FROM:<%s>\r\n", sender);
        say(&peer, "250", "RCPT TO:<u%ld@%s>\r\n", number % mailboxes, domain);
        say(&peer, "354", "DATA\r\n");
        send_all(&peer, content, content_length);
        expect(&peer, "250", "the end of data");
        latency[number] = now() - start;
        if (++sent == per_session) {
            close_connection(&peer);
            lasted[atomic_fetch_add(&ended, 1)] = now() - began;
            opened = 0;
        }
    }
    if (opened)
        close_connection(&peer);
    return unused;
}

/* a header and lines of 72 characters, with the final dot */
static void compose(void)
{
    char head[512];
    long length = snprintf(head, sizeof head, "From: <%s>\r\nTo: <list@client.test>\r\nSubject: benchmark message\r\n"
                           "Date: Sun, 22 Nov 2026 20:00:00 +0000\r\nMessage-ID: <benchmark@client.test>\r\n\r\n", sender);
    if (octets <= length)
        die("a message has more than %ld octets", length);
    content = malloc(octets + 3);
    memset(content, 'x', octets);
    memcpy(content, head, length);
    for (long end = length + 74; end < octets - 2; end += 74)
        memcpy(content + end - 2, "\r\n", 2);
    memcpy(content + octets - 2, "\r\n.\r\n", 5);
    content_length = octets + 3;
}

/* the content of a file, as it is */
static void take(void)
{
    FILE *source = fopen(file, "rb");
    if (source == NULL)
        die("%s: %s", file, strerror(errno));
    content = malloc(1 << 24);
    content_length = fread(content, 1, 1 << 24, source);
    fclose(source);
}

static void prepare(void)
{
    if (use_tls) {
        tls = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
    }
    if (login) {
        unsigned char plain[256], encoded[400];
        const char *colon = strchr(login, ':');
        if (colon == NULL)
            die("-a LOGIN:PASSWORD");
        int length = snprintf((char *)plain, sizeof plain, "%c%.*s%c%s", 0, (int)(colon - login), login, 0, colon + 1);
        EVP_EncodeBlock(encoded, plain, length);
        snprintf(authentication, sizeof authentication, "AUTH PLAIN %s\r\n", encoded);
    }
    if (file)
        take();
    else
        compose();
    latency = calloc(messages, sizeof *latency);
    lasted = calloc(messages, sizeof *lasted);
}

static void hold(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct connection *last = NULL;
    SSL_SESSION *known = NULL;
    double start = now();
    for (long number = 0; number < idle; number++) {
        last = malloc(sizeof *last);
        open_connection(last, number, &known);
    }
    printf("{\"opened\": %ld, \"seconds\": %.3f}\n", idle, now() - start);
    fflush(stdout);
    for (int c; (c = getchar()) != EOF;) {
        if (c != '\n')
            continue;
        start = now();
        say(last, "250", "NOOP\r\n");
        printf("{\"noop_ms\": %.3f}\n", (now() - start) * 1e3);
        fflush(stdout);
    }
}

static int ascending(const void *left, const void *right);

static void watch(void)
{
    struct connection peer;
    SSL_SESSION *known = NULL;
    long count = 50L * watched;
    double *waited = calloc(count, sizeof *waited), start = now();
    open_connection(&peer, 0, &known);
    for (long i = 0; i < count; i++) {
        sleep_until(start + i / 50.0);
        double asked = now();
        say(&peer, "250", "NOOP\r\n");
        waited[i] = now() - asked;
    }
    qsort(waited, count, sizeof *waited, ascending);
    printf("{\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"most_ms\": %.3f}\n", waited[count / 2] * 1e3,
           waited[count * 99 / 100] * 1e3, waited[count - 1] * 1e3);
}

static int ascending(const void *left, const void *right)
{
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

static void run(void)
{
    pthread_t *threads = calloc(sessions, sizeof *threads);
    double start = first = now();
    for (int i = 0; i < sessions; i++)
        pthread_create(&threads[i], NULL, session, NULL);
    for (int i = 0; i < sessions; i++)
        pthread_join(threads[i], NULL);
    double seconds = now() - start;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    long whole = atomic_load(&ended);
    qsort(latency, messages, sizeof *latency, ascending);
    qsort(lasted, whole, sizeof *lasted, ascending);
    printf("{\"accepted\": %ld, \"seconds\": %.4f, \"load_cpu_seconds\": %.3f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"session_p99_ms\": %.3f}\n",
           messages, seconds, cpu, latency[messages / 2] * 1e3, latency[messages * 99 / 100] * 1e3,
           whole ? lasted[whole * 99 / 100] * 1e3 : 0.0);
}

int main(int count, char **arguments)
{
    signal(SIGPIPE, SIG_IGN);
    for (int option; (option = getopt(count, arguments, "p:s:m:k:l:f:F:d:u:i:w:R:tra:")) != -1;)
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 's': sessions = atoi(optarg); break;
        case 'm': messages = atol(optarg); break;
        case 'k': per_session = atol(optarg); break;
        case 'l': octets = atol(optarg); break;
        case 'f': file = optarg; break;
        case 'F': sender = optarg; break;
        case 'd': domain = optarg; break;
        case 'u': mailboxes = atoi(optarg); break;
        case 'i': idle = atol(optarg); break;
        case 'w': watched = atoi(optarg); break;
        case 'R': rate = atol(optarg); break;
        case 't': use_tls = 1; break;
        case 'r': resume = 1; break;
        case 'a': login = optarg; break;
        default: die("see the head of load.c");
        }
    if (port == 0)
        die("-p PORT");
    prepare();
    if (idle)
        hold();
    else if (watched)
        watch();
    else
        run();
    return 0;
}

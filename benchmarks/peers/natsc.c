/* nats.c under measurement: name=value arguments in, one JSON line out, as the Python programs beside it.
 * Messages are kept as the others keep them: the number in the first eight bytes goes to a list that is looked at when
 * the clock has stopped. */

#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SUBJECT "bench.subject"
#define GO "bench.go"
#define CONCURRENT 100
#define WAIT 60000

static const char *work = "about", *url = "";
static long count_of = 0, size_of = 16, subs_of = 0, workers_of = 0;

static void check(natsStatus status, const char *what) {
    if (status != NATS_OK) {
        fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
        exit(1);
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double resident(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%*s %ld", &pages) != 1) exit(1);
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void done(void) {
    char byte;
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {
    }
    exit(0);
}

/* --- numbered payloads, and what became of them ------------------------------------------------------------------ */

static unsigned char *ring;
static long turn;

static void make_ring(void) {
    turn = size_of > 4096 ? 64 : 4096;
    ring = malloc((size_t)(turn * size_of));
    memset(ring, '.', (size_t)(turn * size_of));
    for (long number = 0; number < turn; number++)
        for (int place = 0; place < 8; place++)
            ring[number * size_of + place] = (unsigned char)((unsigned long)number >> (8 * (7 - place)));
}

static unsigned char *payload(long number) { return ring + (number % turn) * size_of; }

static long number_in(natsMsg *msg) {
    const unsigned char *data = (const unsigned char *)natsMsg_GetData(msg);
    unsigned long number = 0;
    if (natsMsg_GetDataLength(msg) != size_of) return -1;
    for (int place = 0; place < 8; place++) number = number << 8 | data[place];
    return (long)number;
}

typedef struct {
    long received, lost, doubled, misordered;
} Findings;

static void look(Findings *findings, const long *numbers, long received) {
    char *seen = calloc((size_t)count_of, 1);
    long highest = -1, different = 0;
    for (long at = 0; at < received; at++) {
        long number = numbers[at];
        if (number < 0 || number >= count_of || seen[number]) {
            findings->doubled++;
            continue;
        }
        if (number < highest) findings->misordered++;
        else highest = number;
        seen[number] = 1;
        different++;
    }
    findings->received += received;
    findings->lost += count_of - different;
    free(seen);
}

static void print_findings(const Findings *found) {
    printf("\"received\": %ld, \"lost\": %ld, \"doubled\": %ld, \"misordered\": %ld", found->received, found->lost,
           found->doubled, found->misordered);
}

static void print_timed(double seconds, double used, long counted) {
    printf("{\"seconds\": %.9f, \"cpu\": %.6f, \"counted\": %ld, ", seconds, used, counted);
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int reconnected = 0;

static void on_reconnected(natsConnection *nc, void *closure) {
    (void)nc, (void)closure;
    pthread_mutex_lock(&lock);
    reconnected = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static int at_once = 0;

static natsConnection *dial(int one_delivery_thread) {
    natsConnection *nc = NULL;
    natsOptions *options = NULL;
    check(natsOptions_Create(&options), "options");
    check(natsOptions_SetURL(options, url), "url");
    check(natsOptions_SetReconnectWait(options, 10), "wait");
    check(natsOptions_SetReconnectJitter(options, 0, 0), "jitter");
    check(natsOptions_SetMaxReconnect(options, 100000), "reconnects");
    check(natsOptions_SetReconnectedCB(options, on_reconnected, NULL), "callback");
    if (at_once) check(natsOptions_SetSendAsap(options, true), "at once");
    if (one_delivery_thread) check(natsOptions_UseGlobalMessageDelivery(options, true), "delivery");
    check(natsConnection_Connect(&nc, options), "connect");
    natsOptions_Destroy(options);
    return nc;
}

static void flush(natsConnection *nc) { check(natsConnection_FlushTimeout(nc, WAIT), "flush"); }

static void go(natsConnection *nc) { check(natsConnection_Publish(nc, GO, "", 0), "go"); }

/* --- works -------------------------------------------------------------------------------------------------------- */

static void publish(void) {
    natsConnection *nc = dial(0);
    make_ring();
    flush(nc);
    double used = cpu(), start = now();
    for (long number = 0; number < count_of; number++)
        check(natsConnection_Publish(nc, SUBJECT, payload(number), (int)size_of), "publish");
    flush(nc);
    print_timed(now() - start, cpu() - used, count_of);
    printf("\"published_besides\": 0}\n");
}

static void subscribe_iterator(void) {
    natsConnection *nc = dial(0);
    natsSubscription *sub = NULL;
    natsMsg *msg = NULL;
    long *numbers = malloc(sizeof(long) * (size_t)count_of);
    Findings found = {0};
    double used = 0, start = 0;
    check(natsConnection_SubscribeSync(&sub, nc, SUBJECT), "subscribe");
    check(natsSubscription_SetPendingLimits(sub, -1, -1), "limits");
    flush(nc);
    go(nc);
    for (long at = 0; at < count_of; at++) {
        check(natsSubscription_NextMsg(&msg, sub, WAIT), "next");
        numbers[at] = number_in(msg);
        natsMsg_Destroy(msg);
        if (at == 0) used = cpu(), start = now();
    }
    print_timed(now() - start, cpu() - used, count_of - 1);
    look(&found, numbers, count_of);
    print_findings(&found);
    printf("}\n");
}

typedef struct {
    long *numbers, received;
} Listener;

static long all_received = 0, all_expected = 0;
static double first_at = 0, last_at = 0, first_cpu = 0, last_cpu = 0;

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure) {
    Listener *listener = closure;
    (void)nc, (void)sub;
    listener->numbers[listener->received++] = number_in(msg);
    natsMsg_Destroy(msg);
    if (++all_received == 1) first_cpu = cpu(), first_at = now();
    if (all_received == all_expected) {
        pthread_mutex_lock(&lock);
        last_at = now(), last_cpu = cpu();
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
}

/* One delivery thread serves all subscriptions, so nothing that on_message counts needs a lock. */
static void subscribe_callback(long subscriptions) {
    natsConnection *nc = dial(subscriptions > 1);
    Listener *listeners = calloc((size_t)subscriptions, sizeof(Listener));
    Findings found = {0};
    all_expected = count_of * subscriptions;
    for (long number = 0; number < subscriptions; number++) {
        natsSubscription *sub = NULL;
        listeners[number].numbers = malloc(sizeof(long) * (size_t)(count_of + 1));
        check(natsConnection_Subscribe(&sub, nc, SUBJECT, on_message, &listeners[number]), "subscribe");
        check(natsSubscription_SetPendingLimits(sub, -1, -1), "limits");
    }
    flush(nc);
    go(nc);
    pthread_mutex_lock(&lock);
    while (last_at == 0) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    print_timed(last_at - first_at, last_cpu - first_cpu, all_expected - 1);
    for (long number = 0; number < subscriptions; number++)
        look(&found, listeners[number].numbers, listeners[number].received);
    print_findings(&found);
    printf("}\n");
}

static int by_size(const void *one, const void *two) {
    double difference = *(const double *)one - *(const double *)two;
    return difference < 0 ? -1 : difference > 0;
}

static void print_times(double *times, long wrong) {
    long p99 = count_of * 99 / 100;
    qsort(times, (size_t)count_of, sizeof(double), by_size);
    printf("\"received\": %ld, \"wrong\": %ld, \"p50\": %.9f, \"p99\": %.9f}\n", count_of, wrong, times[count_of / 2],
           times[p99 < count_of ? p99 : count_of - 1]);
}

static int right_reply(natsConnection *nc, long number) {
    natsMsg *reply = NULL;
    check(natsConnection_Request(&reply, nc, SUBJECT, payload(number), (int)size_of, 5000), "request");
    int right = natsMsg_GetDataLength(reply) == size_of &&
                memcmp(natsMsg_GetData(reply), payload(number), (size_t)size_of) == 0;
    natsMsg_Destroy(reply);
    return right;
}

static void request(void) {
    natsConnection *nc = dial(0);
    double *times = malloc(sizeof(double) * (size_t)count_of);
    long wrong = 0;
    make_ring();
    double used = cpu(), begin = now();
    for (long number = 0; number < count_of; number++) {
        double start = now();
        wrong += !right_reply(nc, number);
        times[number] = now() - start;
    }
    print_timed(now() - begin, cpu() - used, count_of);
    print_times(times, wrong);
}

typedef struct {
    natsConnection *nc;
    long first, every, right;
} Asker;

static void *ask(void *closure) {
    Asker *asker = closure;
    for (long at = asker->first; at < count_of; at += asker->every) asker->right += right_reply(asker->nc, at);
    return NULL;
}

static void request_beside(long workers) {
    natsConnection *nc = dial(0);
    pthread_t *threads = malloc(sizeof(pthread_t) * (size_t)workers);
    Asker *askers = malloc(sizeof(Asker) * (size_t)workers);
    long right = 0;
    make_ring();
    double used = cpu(), start = now();
    for (long number = 0; number < workers; number++) {
        askers[number] = (Asker){nc, number, workers, 0};
        pthread_create(&threads[number], NULL, ask, &askers[number]);
    }
    for (long number = 0; number < workers; number++) {
        pthread_join(threads[number], NULL);
        right += askers[number].right;
    }
    print_timed(now() - start, cpu() - used, count_of);
    printf("\"received\": %ld, \"wrong\": %ld}\n", right, count_of - right);
}

static double arrived_at = 0;
static int arrived_right = 0, arrived = 0;
static const unsigned char *awaited;

static void on_arrival(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure) {
    double at = now();
    (void)nc, (void)sub, (void)closure;
    pthread_mutex_lock(&lock);
    arrived_at = at;
    arrived_right = natsMsg_GetDataLength(msg) == size_of && memcmp(natsMsg_GetData(msg), awaited, (size_t)size_of) == 0;
    arrived++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    natsMsg_Destroy(msg);
}

static void on_nothing(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure) {
    (void)nc, (void)sub, (void)closure;
    natsMsg_Destroy(msg);
}

/* From one client's call of publish to another's call of the callback; the next is published when it has come. */
static void one_in_flight(void) {
    at_once = 1; /* else the library waits for a millisecond what else there may be to write */
    natsConnection *nc = dial(0), *publisher = dial(0);
    natsSubscription *sub = NULL;
    char subject[64];
    double *times = malloc(sizeof(double) * (size_t)count_of);
    long wrong = 0;
    for (long number = 0; number < subs_of; number++) {
        snprintf(subject, sizeof(subject), "bench.idle.%ld", number);
        check(natsConnection_Subscribe(&sub, nc, subject, on_nothing, NULL), "subscribe");
    }
    check(natsConnection_Subscribe(&sub, nc, SUBJECT, on_arrival, NULL), "subscribe");
    make_ring();
    flush(nc);
    double used = cpu(), begin = now();
    for (long number = 0; number < count_of; number++) {
        awaited = payload(number);
        double start = now();
        check(natsConnection_Publish(publisher, SUBJECT, awaited, (int)size_of), "publish");
        pthread_mutex_lock(&lock);
        while (arrived <= number) pthread_cond_wait(&changed, &lock);
        times[number] = arrived_at - start;
        wrong += !arrived_right;
        pthread_mutex_unlock(&lock);
    }
    print_timed(now() - begin, cpu() - used, count_of);
    print_times(times, wrong);
}

static void subscriptions(void) {
    natsConnection *nc = dial(0);
    natsSubscription *sub = NULL;
    char subject[64];
    check(natsConnection_SubscribeSync(&sub, nc, SUBJECT), "subscribe");
    flush(nc);
    double before = resident(), used = cpu(), start = now();
    for (long number = 0; number < subs_of; number++) {
        snprintf(subject, sizeof(subject), "bench.many.%ld", number);
        check(natsConnection_SubscribeSync(&sub, nc, subject), "subscribe");
    }
    flush(nc);
    double seconds = now() - start;
    used = cpu() - used;
    double each = (resident() - before) / (double)(subs_of > 0 ? subs_of : 1);
    go(nc);
    pthread_mutex_lock(&lock);
    while (!reconnected) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    flush(nc);
    double restored = now();
    print_timed(seconds, used, subs_of);
    printf("\"bytes_each\": %.1f, \"restored_at\": %.9f}\n", each, restored);
}

static void connecting(void) {
    double *times = malloc(sizeof(double) * (size_t)count_of);
    double used = cpu(), begin = now();
    for (long number = 0; number < count_of; number++) {
        double start = now();
        natsConnection *nc = dial(0);
        times[number] = now() - start;
        natsConnection_Destroy(nc);
    }
    print_timed(now() - begin, cpu() - used, count_of);
    print_times(times, 0);
}

#include "natsc_jetstream.h"

int main(int argc, char **argv) {
    for (int at = 1; at < argc; at++) {
        const char *value = strchr(argv[at], '=');
        if (value == NULL) continue;
        value++;
        if (strncmp(argv[at], "work=", 5) == 0) work = value;
        if (strncmp(argv[at], "url=", 4) == 0) url = value;
        if (strncmp(argv[at], "count=", 6) == 0) count_of = atol(value);
        if (strncmp(argv[at], "size=", 5) == 0) size_of = atol(value);
        if (strncmp(argv[at], "subs=", 5) == 0) subs_of = atol(value);
        if (strncmp(argv[at], "workers=", 8) == 0) workers_of = atol(value);
    }
    if (strcmp(work, "about") == 0) {
        printf("{\"version\": \"%s\"}\n", nats_GetVersion());
        return 0;
    }
    if (strcmp(work, "publish") == 0) publish();
    else if (strcmp(work, "subscribe_iterator") == 0) subscribe_iterator();
    else if (strcmp(work, "subscribe_callback") == 0) subscribe_callback(1);
    else if (strcmp(work, "fan_out") == 0) subscribe_callback(subs_of);
    else if (strcmp(work, "request") == 0) request();
    else if (strcmp(work, "request_concurrent") == 0) request_beside(CONCURRENT);
    else if (strcmp(work, "request_threads") == 0) request_beside(workers_of);
    else if (strcmp(work, "one_in_flight") == 0) one_in_flight();
    else if (strcmp(work, "subscriptions") == 0) subscriptions();
    else if (strcmp(work, "connect") == 0) connecting();
    else if (strcmp(work, "js_window") == 0) js_window();
    else if (strcmp(work, "js_publish") == 0) js_publish();
    else if (strcmp(work, "js_fetch") == 0) js_fetch();
    else if (strcmp(work, "js_ordered") == 0) js_ordered();
    else return 2;
    done();
}

/* JetStream of nats.c under measurement: a part of natsc.c. The stream and the consumer are there already. */

#define STREAM "BENCH"
#define CONSUMER "bench"
#define WINDOW 1000
#define FETCH 500

static jsCtx *jetstream(natsConnection *nc) {
    jsCtx *js = NULL;
    jsOptions options;
    check(jsOptions_Init(&options), "options");
    options.PublishAsync.MaxPending = WINDOW;
    options.PublishAsync.StallWait = WAIT;
    check(natsConnection_JetStream(&js, nc, &options), "jetstream");
    return js;
}

static void js_window(void) {
    natsConnection *nc = dial(0);
    jsCtx *js = jetstream(nc);
    natsMsgList failed = {0};
    make_ring();
    flush(nc);
    double used = cpu(), start = now();
    for (long number = 0; number < count_of; number++)
        check(js_PublishAsync(js, SUBJECT, payload(number), (int)size_of, NULL), "publish");
    check(js_PublishAsyncComplete(js, NULL), "complete");
    print_timed(now() - start, cpu() - used, count_of);
    if (js_PublishAsyncGetPendingList(&failed, js) != NATS_NOT_FOUND) check(NATS_ERR, "not acknowledged");
    printf("\"published_besides\": 0}\n");
}

static void js_publish(void) {
    natsConnection *nc = dial(0);
    jsCtx *js = jetstream(nc);
    double *times = malloc(sizeof(double) * (size_t)count_of);
    long wrong = 0;
    make_ring();
    double used = cpu(), begin = now();
    for (long number = 0; number < count_of; number++) {
        jsPubAck *ack = NULL;
        double start = now();
        check(js_Publish(&ack, js, SUBJECT, payload(number), (int)size_of, NULL, NULL), "publish");
        times[number] = now() - start;
        wrong += ack->Sequence != (uint64_t)number + 1;
        jsPubAck_Destroy(ack);
    }
    print_timed(now() - begin, cpu() - used, count_of);
    print_times(times, wrong);
}

static void js_fetch(void) {
    natsConnection *nc = dial(0);
    jsCtx *js = jetstream(nc);
    natsSubscription *sub = NULL;
    jsSubOptions options;
    long *numbers = malloc(sizeof(long) * (size_t)count_of), received = 0;
    Findings found = {0};
    check(jsSubOptions_Init(&options), "options");
    options.Stream = STREAM;
    options.Consumer = CONSUMER;
    check(js_PullSubscribe(&sub, js, NULL, NULL, NULL, &options, NULL), "pull");
    check(natsSubscription_SetPendingLimits(sub, -1, -1), "limits");
    flush(nc);
    double used = cpu(), start = now();
    while (received < count_of) {
        natsMsgList batch = {0};
        long wanted = count_of - received < FETCH ? count_of - received : FETCH;
        check(natsSubscription_Fetch(&batch, sub, (int)wanted, 5000, NULL), "fetch");
        for (int at = 0; at < batch.Count; at++) {
            if (received < count_of) numbers[received++] = number_in(batch.Msgs[at]);
            check(natsMsg_Ack(batch.Msgs[at], NULL), "ack");
        }
        natsMsgList_Destroy(&batch);
    }
    flush(nc);
    print_timed(now() - start, cpu() - used, count_of);
    look(&found, numbers, count_of);
    print_findings(&found);
    printf("}\n");
}

static void js_ordered(void) {
    natsConnection *nc = dial(0);
    jsCtx *js = jetstream(nc);
    natsSubscription *sub = NULL;
    jsSubOptions options;
    long *numbers = malloc(sizeof(long) * (size_t)count_of);
    Findings found = {0};
    flush(nc);
    check(jsSubOptions_Init(&options), "options");
    options.Stream = STREAM;
    options.Ordered = true;
    double used = cpu(), start = now();
    check(js_SubscribeSync(&sub, js, SUBJECT, NULL, &options, NULL), "ordered");
    check(natsSubscription_SetPendingLimits(sub, -1, -1), "limits");
    for (long at = 0; at < count_of; at++) {
        natsMsg *msg = NULL;
        check(natsSubscription_NextMsg(&msg, sub, WAIT), "next");
        numbers[at] = number_in(msg);
        natsMsg_Destroy(msg);
    }
    print_timed(now() - start, cpu() - used, count_of);
    look(&found, numbers, count_of);
    print_findings(&found);
    printf("}\n");
}

// JetStream of nats.go under measurement, by its package jetstream. The stream and the consumer are there already.
package main

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamName   = "BENCH"
	consumerName = "bench"
	window       = 1000
	fetchAtOnce  = 500
)

func jetStream(options ...jetstream.JetStreamOpt) (*nats.Conn, jetstream.JetStream) {
	nc := dial()
	js, err := jetstream.New(nc, options...)
	check(err)
	flush(nc)
	return nc, js
}

func consumer() (*nats.Conn, jetstream.Consumer) {
	nc, js := jetStream()
	found, err := js.Consumer(context.Background(), streamName, consumerName)
	check(err)
	return nc, found
}

func jsWindow() {
	failed := func(_ jetstream.JetStream, _ *nats.Msg, err error) { check(err) }
	_, js := jetStream(jetstream.WithPublishAsyncMaxPending(window), jetstream.WithPublishAsyncErrHandler(failed))
	payloads := ring()
	begun := startClock()
	for number := range count {
		_, err := js.PublishAsync(subject, payloads[number%len(payloads)], jetstream.WithStallWait(patience))
		check(err)
	}
	<-js.PublishAsyncComplete()
	report(begun.stop(count))
}

func jsPublish() {
	_, js := jetStream()
	payloads := ring()
	took := make([]time.Duration, 0, count)
	wrong := 0
	begun := startClock()
	for number := range count {
		start := time.Now()
		ack, err := js.Publish(context.Background(), subject, payloads[number%len(payloads)])
		check(err)
		took = append(took, time.Since(start))
		if ack.Sequence != uint64(number)+1 {
			wrong++
		}
	}
	report(begun.stop(count), times(took, wrong))
}

func jsFetch() {
	nc, cons := consumer()
	numbers := make([]int64, 0, count)
	begun := startClock()
	for len(numbers) < count {
		batch, err := cons.Fetch(min(fetchAtOnce, count-len(numbers)))
		check(err)
		for msg := range batch.Messages() {
			numbers = append(numbers, numberIn(msg.Data()))
			check(msg.Ack())
		}
		check(batch.Error())
	}
	flush(nc)
	timed := begun.stop(count)
	var found findings
	found.look(numbers, 0, 1)
	report(timed, found.result())
}

func jsMessages() {
	nc, cons := consumer()
	numbers := make([]int64, 0, count)
	begun := startClock()
	iterator, err := cons.Messages(jetstream.PullMaxMessages(fetchAtOnce))
	check(err)
	for range count {
		msg, err := iterator.Next()
		check(err)
		numbers = append(numbers, numberIn(msg.Data()))
		check(msg.Ack())
	}
	flush(nc)
	timed := begun.stop(count)
	var found findings
	found.look(numbers, 0, 1)
	report(timed, found.result())
}

func jsOrdered() {
	_, js := jetStream()
	numbers := make([]int64, 0, count)
	begun := startClock()
	cons, err := js.OrderedConsumer(context.Background(), streamName, jetstream.OrderedConsumerConfig{})
	check(err)
	iterator, err := cons.Messages()
	check(err)
	for range count {
		msg, err := iterator.Next()
		check(err)
		numbers = append(numbers, numberIn(msg.Data()))
	}
	timed := begun.stop(count)
	var found findings
	found.look(numbers, 0, 1)
	report(timed, found.result())
}

// Key-Value and object store of nats.go under measurement, by its package jetstream. The buckets are there already.
package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	bucketName = "BENCH"
	keyName    = "key.%d"
	keys       = 1000
	objectName = "object"
)

func keyValue() jetstream.KeyValue {
	_, js := jetStream()
	kv, err := js.KeyValue(context.Background(), bucketName)
	check(err)
	return kv
}

func kvPut() {
	kv := keyValue()
	payloads := ring()
	names := make([]string, keys)
	for number := range names {
		names[number] = fmt.Sprintf(keyName, number)
	}
	took := make([]time.Duration, 0, count)
	wrong := 0
	begun := startClock()
	for number := range count {
		start := time.Now()
		revision, err := kv.Put(context.Background(), names[(number+1)%keys], payloads[number%len(payloads)])
		check(err)
		took = append(took, time.Since(start))
		if revision != uint64(number)+1 {
			wrong++
		}
	}
	report(begun.stop(count), times(took, wrong))
}

func kvGet() {
	kv := keyValue()
	took := make([]time.Duration, 0, count)
	wrong := 0
	begun := startClock()
	for number := range count {
		name := fmt.Sprintf(keyName, number)
		start := time.Now()
		entry, err := kv.Get(context.Background(), name)
		check(err)
		took = append(took, time.Since(start))
		if numberIn(entry.Value()) != int64(number) {
			wrong++
		}
	}
	report(begun.stop(count), times(took, wrong))
}

func kvWatch() {
	kv := keyValue()
	numbers := make([]int64, 0, count)
	begun := startClock()
	watcher, err := kv.WatchAll(context.Background())
	check(err)
	for len(numbers) < count {
		if entry := <-watcher.Updates(); entry != nil {
			numbers = append(numbers, numberIn(entry.Value()))
		}
	}
	timed := begun.stop(count)
	var found findings
	found.look(numbers, 0, 1)
	report(timed, found.result())
}

func objects() jetstream.ObjectStore {
	_, js := jetStream()
	found, err := js.ObjectStore(context.Background(), bucketName)
	check(err)
	return found
}

// peakAfter is how far memory has ever grown beyond what was resident before.
func peakAfter(before int) result {
	return result{"grown": max(0, memory()["peak"].(int)-before)}
}

// payloadReader is so many payloads of a ring, as a file.
type payloadReader struct {
	payloads [][]byte
	number   int
	left     []byte
}

func (r *payloadReader) Read(buffer []byte) (int, error) {
	if len(r.left) == 0 {
		if r.number == count {
			return 0, io.EOF
		}
		r.left = r.payloads[r.number%len(r.payloads)]
		r.number++
	}
	length := copy(buffer, r.left)
	r.left = r.left[length:]
	return length, nil
}

func objectPut() {
	store := objects()
	reader := &payloadReader{payloads: ring()}
	before := resident()
	begun := startClock()
	_, err := store.Put(context.Background(), jetstream.ObjectMeta{Name: objectName}, reader)
	check(err)
	report(begun.stop(count), peakAfter(before))
}

func objectGet() {
	store := objects()
	numbers := make([]int64, 0, count)
	chunk := make([]byte, size)
	before := resident()
	begun := startClock()
	reader, err := store.Get(context.Background(), objectName)
	check(err)
	for {
		_, err := io.ReadFull(reader, chunk)
		if err == io.EOF {
			break
		}
		check(err)
		numbers = append(numbers, numberIn(chunk))
	}
	timed := begun.stop(count)
	var found findings
	found.look(numbers, 0, 1)
	report(timed, peakAfter(before), found.result())
}

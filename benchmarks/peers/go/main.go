// nats.go under measurement: name=value arguments in, one JSON line out, as the Python programs beside it.
// Messages are kept as the others keep them: the number in the first eight bytes goes to a slice that is looked at when
// the clock has stopped.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/nats-io/nats.go"
)

const (
	subject    = "bench.subject"
	spread     = "bench.spread.%05d"
	many       = "bench.many.%d"
	idle       = "bench.idle.%d"
	goSubject  = "bench.go"
	concurrent = 100
	patience   = 60 * time.Second
)

type result map[string]any

var (
	work    = "about"
	url     string
	count   int
	size    = 16
	subs    int
	workers int
)

func check(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "Error: %v\n", err)
		os.Exit(1)
	}
}

// report prints what was found, and keeps everything as it is until standard input ends.
func report(parts ...result) {
	whole := result{}
	for _, part := range parts {
		for name, value := range part {
			whole[name] = value
		}
	}
	line, err := json.Marshal(whole)
	check(err)
	fmt.Println(string(line))
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// --- the clock ------------------------------------------------------------------------------------------------------

func processorTime() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	seconds := func(value syscall.Timeval) float64 { return float64(value.Sec) + float64(value.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}

// machineSeconds is the clock of the whole machine, which the benchmark reads as well; the one of time is not.
func machineSeconds() float64 {
	var now syscall.Timespec
	const monotonic = 1
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&now)), 0)
	if errno != 0 {
		check(errno)
	}
	return float64(now.Sec) + float64(now.Nsec)/1e9
}

type clock struct {
	cpu   float64
	start time.Time
}

func startClock() clock { return clock{processorTime(), time.Now()} }

func (begun clock) stop(counted int) result {
	seconds := time.Since(begun.start).Seconds()
	return result{"seconds": seconds, "cpu": processorTime() - begun.cpu, "counted": counted}
}

func times(each []time.Duration, wrong int) result {
	slices.Sort(each)
	p99 := min(len(each)-1, len(each)*99/100)
	return result{
		"received": len(each), "wrong": wrong, "p50": each[len(each)/2].Seconds(), "p99": each[p99].Seconds(),
	}
}

// memory is what is resident, in bytes: now, and at most.
func memory() result {
	data, err := os.ReadFile("/proc/self/status")
	check(err)
	kib := func(name string) int {
		_, behind, _ := strings.Cut(string(data), name+":")
		value, err := strconv.Atoi(strings.Fields(behind)[0])
		check(err)
		return value * 1024
	}
	return result{"resident": kib("VmRSS"), "peak": kib("VmHWM")}
}

func resident() int {
	runtime.GC()
	return memory()["resident"].(int)
}

// --- numbered payloads, and what became of them -----------------------------------------------------------------------

func ring() [][]byte {
	turn := 4096
	if size > 4096 {
		turn = 64
	}
	payloads := make([][]byte, turn)
	for number := range payloads {
		payloads[number] = bytes.Repeat([]byte{'.'}, size)
		binary.BigEndian.PutUint64(payloads[number], uint64(number))
	}
	return payloads
}

func numberIn(data []byte) int64 {
	if len(data) != size {
		return -1
	}
	return int64(binary.BigEndian.Uint64(data))
}

type findings struct{ received, lost, doubled, misordered int }

// look at the numbers of one subscription, which is sent first, first + every, first + 2 * every, …
func (found *findings) look(numbers []int64, first, every int) {
	expected := max(0, (count-first+every-1)/every)
	seen := make([]bool, expected)
	highest, different := int64(-1), 0
	for _, number := range numbers {
		place := (number - int64(first)) / int64(every)
		if number < 0 || number >= int64(count) || number%int64(every) != int64(first) || seen[place] {
			found.doubled++
			continue
		}
		if number < highest {
			found.misordered++
		} else {
			highest = number
		}
		seen[place] = true
		different++
	}
	found.received += len(numbers)
	found.lost += expected - different
}

func (found *findings) result() result {
	return result{
		"received": found.received, "lost": found.lost, "doubled": found.doubled, "misordered": found.misordered,
	}
}

// --- connections ------------------------------------------------------------------------------------------------------

func dial(options ...nats.Option) *nats.Conn {
	options = append(options, nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0), nats.MaxReconnects(-1))
	nc, err := nats.Connect(url, options...)
	check(err)
	return nc
}

func flush(nc *nats.Conn) { check(nc.FlushTimeout(patience)) }

func unlimited(sub *nats.Subscription, err error) *nats.Subscription {
	check(err)
	check(sub.SetPendingLimits(-1, -1))
	return sub
}

// --- works --------------------------------------------------------------------------------------------------------

// publish from so many goroutines: message n is published by number n % beside.
func publish(beside int) {
	nc := dial()
	payloads := ring()
	flush(nc)
	var all sync.WaitGroup
	begun := startClock()
	for first := range beside {
		all.Go(func() {
			for number := first; number < count; number += beside {
				check(nc.Publish(subject, payloads[number%len(payloads)]))
			}
		})
	}
	all.Wait()
	flush(nc)
	report(begun.stop(count))
}

func subscribeIterator() {
	nc := dial()
	sub := unlimited(nc.SubscribeSync(subject))
	flush(nc)
	check(nc.Publish(goSubject, nil))
	numbers := make([]int64, 0, count)
	var begun clock
	for range count {
		msg, err := sub.NextMsg(patience)
		check(err)
		numbers = append(numbers, numberIn(msg.Data))
		if len(numbers) == 1 {
			begun = startClock()
		}
	}
	timed := begun.stop(count - 1)
	var found findings
	found.look(numbers, 0, 1)
	report(timed, found.result())
}

// listen to all of them until so many messages have come: the numbers of each, and the time they took.
func listen(subjects []string, last int64, atTheEnd func() result) ([][]int64, result) {
	nc := dial()
	var received atomic.Int64
	var begun clock
	var timed result
	done := make(chan struct{})
	// Slices of their own, so that no two goroutines write to one cache line all the time.
	kept := make([]*[]int64, len(subjects))
	for at, name := range subjects {
		numbers := make([]int64, 0, last/int64(len(subjects))+1)
		kept[at] = &numbers
		unlimited(nc.Subscribe(name, func(msg *nats.Msg) {
			numbers = append(numbers, numberIn(msg.Data))
			switch received.Add(1) {
			case 1:
				begun = startClock()
			case last:
				timed = begun.stop(int(last) - 1)
				if atTheEnd != nil {
					for name, value := range atTheEnd() {
						timed[name] = value
					}
				}
				close(done)
			}
		}))
	}
	flush(nc)
	check(nc.Publish(goSubject, nil))
	<-done
	whole := make([][]int64, len(kept))
	for at, numbers := range kept {
		whole[at] = *numbers
	}
	return whole, timed
}

// each subscription gets all messages.
func each(subscriptions int, atTheEnd func() result) {
	subjects := slices.Repeat([]string{subject}, subscriptions)
	kept, timed := listen(subjects, int64(count*subscriptions), atTheEnd)
	var found findings
	for _, numbers := range kept {
		found.look(numbers, 0, 1)
	}
	report(timed, found.result())
}

func inTurn() {
	subjects := make([]string, subs)
	for number := range subjects {
		subjects[number] = fmt.Sprintf(spread, number)
	}
	kept, timed := listen(subjects, int64(count), nil)
	var found findings
	for first, numbers := range kept {
		found.look(numbers, first, subs)
	}
	report(timed, found.result())
}

// oneInFlight measures from one client's call of Publish to another's call of the callback; the next is published when
// it has come.
func oneInFlight() {
	nc, publisher := dial(), dial()
	type arrival struct {
		at   time.Time
		data []byte
	}
	arrived := make(chan arrival, 1)
	for number := range subs {
		_, err := nc.Subscribe(fmt.Sprintf(idle, number), func(*nats.Msg) {})
		check(err)
	}
	unlimited(nc.Subscribe(subject, func(msg *nats.Msg) { arrived <- arrival{time.Now(), msg.Data} }))
	payloads := ring()
	flush(nc)
	took := make([]time.Duration, 0, count)
	wrong := 0
	begun := startClock()
	for number := range count {
		payload := payloads[number%len(payloads)]
		start := time.Now()
		check(publisher.Publish(subject, payload))
		one := <-arrived
		took = append(took, one.at.Sub(start))
		if !bytes.Equal(one.data, payload) {
			wrong++
		}
	}
	report(begun.stop(count), times(took, wrong))
}

func right(nc *nats.Conn, payload []byte) bool {
	reply, err := nc.Request(subject, payload, patience)
	check(err)
	return bytes.Equal(reply.Data, payload)
}

func request() {
	nc := dial()
	payloads := ring()
	took := make([]time.Duration, 0, count)
	wrong := 0
	begun := startClock()
	for number := range count {
		start := time.Now()
		if !right(nc, payloads[number%len(payloads)]) {
			wrong++
		}
		took = append(took, time.Since(start))
	}
	report(begun.stop(count), times(took, wrong))
}

// requestBeside asks from so many goroutines, each one after the other.
func requestBeside(beside int) {
	nc := dial()
	payloads := ring()
	var all sync.WaitGroup
	var answered atomic.Int64
	begun := startClock()
	for first := range beside {
		all.Go(func() {
			for number := first; number < count; number += beside {
				if right(nc, payloads[number%len(payloads)]) {
					answered.Add(1)
				}
			}
		})
	}
	all.Wait()
	timed := begun.stop(count)
	report(timed, result{"received": answered.Load(), "wrong": int64(count) - answered.Load()})
}

// subscriptions: many of them, then the server is restarted.
func subscriptions() {
	back := make(chan struct{}, 1)
	nc := dial(nats.ReconnectHandler(func(*nats.Conn) {
		select {
		case back <- struct{}{}:
		default:
		}
	}))
	_, err := nc.SubscribeSync(subject)
	check(err)
	flush(nc)
	before := resident()
	begun := startClock()
	for number := range subs {
		_, err := nc.SubscribeSync(fmt.Sprintf(many, number))
		check(err)
	}
	flush(nc)
	timed := begun.stop(subs)
	each := float64(resident()-before) / float64(max(1, subs))
	check(nc.Publish(goSubject, nil))
	<-back
	flush(nc)
	report(timed, result{"bytes_each": each, "restored_at": machineSeconds()})
}

func connecting() {
	took := make([]time.Duration, 0, count)
	begun := startClock()
	for range count {
		start := time.Now()
		nc := dial()
		took = append(took, time.Since(start))
		nc.Close()
	}
	report(begun.stop(count), times(took, 0))
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	check(err)
	return value
}

func main() {
	for _, argument := range os.Args[1:] {
		name, value, _ := strings.Cut(argument, "=")
		switch name {
		case "work":
			work = value
		case "url":
			url = value
		case "count":
			count = number(value)
		case "size":
			size = number(value)
		case "subs":
			subs = number(value)
		case "workers":
			workers = number(value)
		}
	}
	switch work {
	case "about":
		fmt.Printf("{\"version\": %q, \"loop\": %q}\n", nats.Version, runtime.Version())
	case "publish":
		publish(1)
	case "publish_threads":
		publish(workers)
	case "subscribe_iterator":
		subscribeIterator()
	case "subscribe_callback":
		each(1, nil)
	case "huge":
		each(1, memory)
	case "fan_out":
		each(subs, nil)
	case "spread":
		inTurn()
	case "one_in_flight":
		oneInFlight()
	case "request":
		request()
	case "request_concurrent":
		requestBeside(concurrent)
	case "request_threads", "request_tasks":
		requestBeside(workers)
	case "subscriptions":
		subscriptions()
	case "connect":
		connecting()
	case "js_window":
		jsWindow()
	case "js_publish":
		jsPublish()
	case "js_fetch":
		jsFetch()
	case "js_messages":
		jsMessages()
	case "js_ordered":
		jsOrdered()
	case "kv_put":
		kvPut()
	case "kv_get":
		kvGet()
	case "kv_watch":
		kvWatch()
	case "object_put":
		objectPut()
	case "object_get":
		objectGet()
	default:
		os.Exit(2)
	}
}

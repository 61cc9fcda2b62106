// The JavaScript client under measurement: name=value arguments in, one JSON line out, as the Python programs beside it.

import { readFileSync } from "node:fs";
import transport from "@nats-io/transport-node";

const { connect } = transport;

const SUBJECT = "bench.subject";
const GO = "bench.go";
const CONCURRENT = 100;
const FLUSH_EVERY = 4 * 1024 * 1024; // bytes: publish() never waits, so something has to let the bytes out

const given = Object.fromEntries(process.argv.slice(2).map((argument) => {
  const at = argument.indexOf("=");
  return [argument.slice(0, at), argument.slice(at + 1)];
}));
const work = given.work ?? "about";
const count = Number(given.count ?? 0);
const size = Number(given.size ?? 16);
const subs = Number(given.subs ?? 0);

const now = () => Number(process.hrtime.bigint()) / 1e9;

class Clock {
  constructor() {
    this.cpu = process.cpuUsage();
    this.start = now();
  }
  stop(counted) {
    const seconds = now() - this.start;
    const used = process.cpuUsage(this.cpu);
    return { seconds, cpu: (used.user + used.system) / 1e6, counted };
  }
}

function ring() {
  const turn = size > 4096 ? 64 : 4096;
  return Array.from({ length: turn }, (_, number) => {
    const payload = new Uint8Array(size).fill(46);
    new DataView(payload.buffer).setBigUint64(0, BigInt(number));
    return payload;
  });
}

// Numbers stay below 2^32 here: the lower half of the eight bytes is read.
const numberIn = (data) => ((data[4] << 24) | (data[5] << 16) | (data[6] << 8) | data[7]) >>> 0;

function findings(numbers) {
  const seen = new Uint8Array(count);
  let highest = -1, different = 0, doubled = 0, misordered = 0;
  for (const number of numbers) {
    if (number >= count || seen[number]) {
      doubled++;
      continue;
    }
    if (number < highest) misordered++;
    else highest = number;
    seen[number] = 1;
    different++;
  }
  return { received: numbers.length, lost: count - different, doubled, misordered };
}

function times(seconds, wrong) {
  const ordered = Float64Array.from(seconds).sort();
  const p99 = Math.min(ordered.length - 1, Math.floor(ordered.length * 99 / 100));
  return { received: ordered.length, wrong, p50: ordered[Math.floor(ordered.length / 2)], p99: ordered[p99] };
}

const equal = (one, two) => Buffer.compare(one, two) === 0;
const dial = (options = {}) => connect({ servers: given.url, ...options });

async function report(result) {
  process.stdout.write(JSON.stringify(result) + "\n");
  for await (const _ of process.stdin);
  process.exit(0);
}

const works = {
  async about() {
    const file = new URL("node_modules/@nats-io/transport-node/package.json", import.meta.url);
    const { version } = JSON.parse(readFileSync(file));
    process.stdout.write(JSON.stringify({ version, loop: `node ${process.version}` }) + "\n");
  },

  async publish() {
    const nc = await dial();
    await nc.flush();
    const payloads = ring();
    const every = Math.max(1, Math.floor(FLUSH_EVERY / size));
    const clock = new Clock();
    for (let number = 0; number < count; number++) {
      nc.publish(SUBJECT, payloads[number % payloads.length]);
      if (number % every === every - 1) await nc.flush();
    }
    await nc.flush();
    await report(clock.stop(count));
  },

  async subscribe_iterator() {
    const nc = await dial();
    const sub = nc.subscribe(SUBJECT);
    await nc.flush();
    nc.publish(GO);
    const numbers = [];
    let clock;
    for await (const message of sub) {
      numbers.push(message.data.length === size ? numberIn(message.data) : count);
      if (numbers.length === 1) clock = new Clock();
      if (numbers.length === count) break;
    }
    await report({ ...clock.stop(count - 1), ...findings(numbers) });
  },

  async subscribe_callback() {
    await listen(1);
  },

  async fan_out() {
    await listen(subs);
  },

  async request() {
    const nc = await dial();
    const payloads = ring();
    const seconds = [];
    let wrong = 0;
    const clock = new Clock();
    for (let number = 0; number < count; number++) {
      const payload = payloads[number % payloads.length];
      const start = now();
      const reply = await nc.request(SUBJECT, payload, { timeout: 5000 });
      seconds.push(now() - start);
      if (!equal(reply.data, payload)) wrong++;
    }
    await report({ ...clock.stop(count), ...times(seconds, wrong) });
  },

  async request_concurrent() {
    const nc = await dial();
    const payloads = ring();
    const share = count / CONCURRENT;
    let right = 0;
    const ask = async (first) => {
      for (let number = first; number < first + share; number++) {
        const payload = payloads[number % payloads.length];
        const reply = await nc.request(SUBJECT, payload, { timeout: 5000 });
        if (equal(reply.data, payload)) right++;
      }
    };
    const clock = new Clock();
    await Promise.all(Array.from({ length: CONCURRENT }, (_, number) => ask(number * share)));
    await report({ ...clock.stop(count), received: right, wrong: count - right });
  },

  async subscriptions() {
    const nc = await dial({ reconnectTimeWait: 10, reconnectJitter: 0, maxReconnectAttempts: -1 });
    const back = new Promise((resolve) => {
      (async () => {
        for await (const status of nc.status()) if (status.type === "reconnect") resolve();
      })();
    });
    nc.subscribe(SUBJECT);
    await nc.flush();
    globalThis.gc?.();
    const before = process.memoryUsage().rss;
    const clock = new Clock();
    for (let number = 0; number < subs; number++) nc.subscribe(`bench.many.${number}`);
    await nc.flush();
    const timed = clock.stop(subs);
    globalThis.gc?.();
    const bytes_each = (process.memoryUsage().rss - before) / Math.max(1, subs);
    nc.publish(GO);
    await back;
    await nc.flush();
    await report({ ...timed, bytes_each, restored_at: now() });
  },

  async connect() {
    const seconds = [];
    const clock = new Clock();
    for (let number = 0; number < count; number++) {
      const start = now();
      const nc = await dial();
      seconds.push(now() - start);
      await nc.close();
    }
    await report({ ...clock.stop(count), ...times(seconds, 0) });
  },
};

async function listen(subscriptions) {
  const nc = await dial();
  const expected = count * subscriptions;
  const lists = [];
  let received = 0, clock, timed;
  await new Promise((resolve) => {
    for (let number = 0; number < subscriptions; number++) {
      const numbers = [];
      lists.push(numbers);
      nc.subscribe(SUBJECT, {
        callback: (_, message) => {
          numbers.push(message.data.length === size ? numberIn(message.data) : count);
          received++;
          if (received === 1) clock = new Clock();
          if (received === expected) {
            timed = clock.stop(expected - 1);
            resolve();
          }
        },
      });
    }
    nc.flush().then(() => nc.publish(GO));
  });
  const found = { received: 0, lost: 0, doubled: 0, misordered: 0 };
  for (const numbers of lists) {
    const one = findings(numbers);
    for (const name of Object.keys(found)) found[name] += one[name];
  }
  await report({ ...timed, ...found });
}

await works[work]();

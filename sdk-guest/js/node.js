// What Fleek's CLI puts in front of every function that it bundles: three modules of Node.js, as far as they can be had. What
// is missing is undefined.

const decoders = {
  hex: (text) => Uint8Array.from(text.match(/[0-9a-f]{2}/gi) ?? [], (pair) => parseInt(pair, 16)),
  base64: (text) => binary(atob(text.replace(/-/g, '+').replace(/_/g, '/').replace(/[^A-Za-z0-9+/]/g, ''))),
  latin1: (text) => binary(text),
  utf8: (text) => new TextEncoder().encode(text),
};

const encoders = {
  hex: (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(''),
  base64: (bytes) => btoa(latin1(bytes)),
  base64url: (bytes) => btoa(latin1(bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, ''),
  latin1: (bytes) => latin1(bytes),
  utf8: (bytes) => new TextDecoder().decode(bytes),
};

const names = { 'utf-8': 'utf8', binary: 'latin1', ascii: 'latin1' };

function coder(coders, encoding = 'utf8') {
  const name = encoding.toLowerCase();
  const found = coders[names[name] ?? name] ?? (name === 'base64url' ? coders.base64 : undefined);
  if (!found) throw new TypeError(`Unknown encoding: ${encoding}`);
  return found;
}

function binary(text) {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

// In pieces: a function has at most so many arguments.
function latin1(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return text;
}

export class Buffer extends Uint8Array {
  static from(value, encoding, length) {
    if (typeof value === 'string') return Buffer.#of(coder(decoders, encoding)(value));
    if (value instanceof ArrayBuffer) return new Buffer(value, encoding, length);
    return Buffer.#of(Uint8Array.from(value));
  }

  static alloc(size, fill = 0) {
    return new Buffer(size).fill(fill);
  }

  static concat(list, total = list.reduce((sum, bytes) => sum + bytes.length, 0)) {
    const all = Buffer.alloc(total);
    let at = 0;
    for (const bytes of list) {
      const part = bytes.subarray(0, total - at);
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  static isBuffer(value) {
    return value instanceof Buffer;
  }

  static byteLength(value, encoding) {
    return typeof value === 'string' ? coder(decoders, encoding)(value).length : value.byteLength;
  }

  static #of(bytes) {
    return new Buffer(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  toString(encoding, start = 0, end = this.length) {
    return coder(encoders, encoding)(this.subarray(start, end));
  }

  toJSON() {
    return { type: 'Buffer', data: Array.from(this) };
  }

  equals(other) {
    return this.length === other.length && this.every((byte, at) => byte === other[at]);
  }

  // Of the same memory, as in Node.js.
  slice(start, end) {
    return this.subarray(start, end);
  }
}

// An instance works for one request at a time, so what is set for a request stays until it has its answer.
export class AsyncLocalStorage {
  #store;

  getStore() {
    return this.#store;
  }

  enterWith(store) {
    this.#store = store;
  }

  run(store, work, ...args) {
    const before = this.#store;
    const restore = () => { this.#store = before; };
    this.#store = store;
    try {
      const result = work(...args);
      if (typeof result?.then === 'function') return Promise.resolve(result).finally(restore);
      restore();
      return result;
    } catch (error) {
      restore();
      throw error;
    }
  }

  exit(work, ...args) {
    return this.run(undefined, work, ...args);
  }
}

export const performance = globalThis.performance;
export const PerformanceObserver = globalThis.PerformanceObserver;

// The same code reads the settings of a function from here, and puts them here itself.
globalThis.process ??= { env: {} };

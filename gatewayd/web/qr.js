// A QR code of a link, made here: no service and no answer of the gateway sees or shapes it.
// Alphanumeric mode, versions 1 to 6 (41×41), level M; what needs more is shown as text alone.
// The numbers are ISO/IEC 18004's.

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";
/** By version: data bytes, correction bytes per block, blocks (level M; all blocks are equal). */
const SIZES = /** @type {const} */ ([[16, 10, 1], [28, 16, 1], [44, 26, 1], [64, 18, 2], [86, 24, 2], [108, 16, 4]]);

// The field of 256 elements over x^8 + x^4 + x^3 + x^2 + 1.
const EXP = new Uint8Array(510);
const LOG = new Uint8Array(256);
for (let i = 0, x = 1; i < 255; i += 1) {
  EXP[i] = EXP[i + 255] = x;
  LOG[x] = i;
  x = (x << 1) ^ (x & 0x80 ? 0x11d : 0);
}
/** @param {number} a @param {number} b */
const times = (a, b) => (a && b ? at(EXP, at(LOG, a) + at(LOG, b)) : 0);
/** @param {ArrayLike<number>} list @param {number} i */
const at = (list, i) => list[i] ?? 0;

/**
 * The correction bytes of a block: the remainder of Reed and Solomon's division.
 * @param {number[]} data
 * @param {number} count
 */
export function correction(data, count) {
  let generator = [1];
  for (let i = 0; i < count; i += 1) {
    const next = [...generator, 0];
    generator.forEach((factor, k) => (next[k + 1] = at(next, k + 1) ^ times(factor, at(EXP, i))));
    generator = next;
  }
  const rest = [...data, ...Array(count).fill(0)];
  for (let i = 0; i < data.length; i += 1) {
    const factor = at(rest, i);
    generator.forEach((value, k) => (rest[i + k] = at(rest, i + k) ^ times(value, factor)));
  }
  return rest.slice(data.length);
}

/**
 * Mode, length, text and padding, as bytes.
 * @param {string} text in the alphabet
 * @param {number} room bytes
 */
export function dataBytes(text, room) {
  const digits = [...text].map((c) => ALPHABET.indexOf(c));
  let bits = `0010${digits.length.toString(2).padStart(9, "0")}`;
  for (let i = 0; i < digits.length; i += 2) {
    const pair = digits[i + 1] !== undefined;
    bits += (pair ? at(digits, i) * 45 + at(digits, i + 1) : at(digits, i)).toString(2).padStart(pair ? 11 : 6, "0");
  }
  bits = `${bits}0000`.slice(0, room * 8);
  const bytes = (bits.match(/.{1,8}/g) ?? []).map((byte) => Number.parseInt(byte.padEnd(8, "0"), 2));
  for (let pad = 0xec; bytes.length < room; pad ^= 0xfd) bytes.push(pad);
  return bytes;
}

/**
 * @param {number[]} data
 * @param {number} correct
 * @param {number} blocks
 */
function interleaved(data, correct, blocks) {
  const each = data.length / blocks;
  const parts = Array.from({ length: blocks }, (_, i) => data.slice(i * each, (i + 1) * each));
  const checks = parts.map((part) => correction(part, correct));
  /** @param {number[][]} lists */
  const woven = (lists) => (lists[0] ?? []).flatMap((_, i) => lists.map((list) => at(list, i)));
  return [...woven(parts), ...woven(checks)];
}

/** @type {((row: number, column: number) => boolean)[]} */
const MASKS = [
  (r, c) => (r + c) % 2 === 0,
  (r) => r % 2 === 0,
  (_, c) => c % 3 === 0,
  (r, c) => (r + c) % 3 === 0,
  (r, c) => (Math.floor(r / 2) + Math.floor(c / 3)) % 2 === 0,
  (r, c) => ((r * c) % 2) + ((r * c) % 3) === 0,
  (r, c) => (((r * c) % 2) + ((r * c) % 3)) % 2 === 0,
  (r, c) => (((r + c) % 2) + ((r * c) % 3)) % 2 === 0,
];

/** @param {number} mask the fifteen bits that name level M and the mask */
function format(mask) {
  let rest = mask << 10;
  for (let i = 14; i >= 10; i -= 1) if (rest & (1 << i)) rest ^= 0x537 << (i - 10);
  return ((mask << 10) | rest) ^ 0x5412;
}

/** @typedef {(boolean | undefined)[][]} Grid */

/** Finders, timing and alignment; `undefined` is left for data. @param {number} version @returns {Grid} */
function frame(version) {
  const size = 17 + 4 * version;
  /** @type {Grid} */
  const grid = Array.from({ length: size }, () => Array(size).fill(undefined));
  /** @param {number} r @param {number} c @param {boolean} dark */
  const set = (r, c, dark) => {
    const row = grid[r];
    if (row && c >= 0 && c < size) row[c] = dark;
  };
  for (let i = 0; i < size; i += 1) {
    set(6, i, i % 2 === 0);
    set(i, 6, i % 2 === 0);
  }
  /** @param {number} row @param {number} column @param {number} reach @param {number[]} light rings */
  const square = (row, column, reach, light) => {
    for (let r = -reach; r <= reach; r += 1) {
      for (let c = -reach; c <= reach; c += 1) set(row + r, column + c, !light.includes(Math.max(Math.abs(r), Math.abs(c))));
    }
  };
  for (const [r, c] of /** @type {const} */ ([[3, 3], [3, size - 4], [size - 4, 3]])) square(r, c, 4, [2, 4]);
  if (version > 1) square(size - 7, size - 7, 2, [1]);
  return grid;
}

/**
 * Where the fifteen bits of the format stand, twice, lowest bit first.
 * @param {number} size
 * @returns {[number, number][][]}
 */
const formatCells = (size) => {
  /** @type {[number, number][]} */
  const first = [];
  /** @type {[number, number][]} */
  const second = [];
  for (let i = 0; i < 15; i += 1) {
    first.push(i < 6 ? [i, 8] : i < 8 ? [i + 1, 8] : i === 8 ? [8, 7] : [8, 14 - i]);
    second.push(i < 8 ? [8, size - 1 - i] : [size - 15 + i, 8]);
  }
  return [first, second];
};

/** @param {boolean[][]} grid how hard it is to read: runs, blocks, imbalance */
function penalty(grid) {
  const size = grid.length;
  let sum = 0;
  let dark = 0;
  for (let r = 0; r < size; r += 1) {
    for (const line of [grid[r] ?? [], grid.map((row) => row[r] ?? false)]) {
      const text = line.map(Number).join("");
      for (const [run] of text.matchAll(/0{5,}|1{5,}/g)) sum += run.length - 2;
      for (const _ of text.matchAll(/(?=10111010000|00001011101)/g)) sum += 40;
    }
    for (let c = 0; c < size; c += 1) {
      const one = grid[r]?.[c];
      dark += one ? 1 : 0;
      if (one === grid[r]?.[c + 1] && one === grid[r + 1]?.[c] && one === grid[r + 1]?.[c + 1]) sum += 3;
    }
  }
  return sum + Math.floor(Math.abs((dark * 20) / (size * size) - 10)) * 10;
}

/** @param {number} version @param {number[]} bytes @param {number} mask */
function drawn(version, bytes, mask) {
  const grid = frame(version);
  const size = grid.length;
  const code = format(mask);
  for (const cells of formatCells(size)) {
    cells.forEach(([r, c], i) => (grid[r] ?? [])[c] = Boolean(code & (1 << i)));
  }
  (grid[size - 8] ?? [])[8] = true;
  let bit = 0;
  // Two columns at a time, right to left, up and down in turn, past the upright timing line.
  for (let right = size - 1, up = true; right > 0; right -= 2, up = !up) {
    if (right === 6) right = 5;
    for (let i = 0; i < size; i += 1) {
      const r = up ? size - 1 - i : i;
      for (const c of [right, right - 1]) {
        const row = grid[r];
        if (!row || row[c] !== undefined) continue;
        const dark = Boolean((at(bytes, bit >> 3) >> (7 - (bit & 7))) & 1);
        row[c] = dark !== MASKS[mask]?.(r, c);
        bit += 1;
      }
    }
  }
  return grid.map((row) => row.map(Boolean));
}

/**
 * @param {string} text upper case
 * @returns {boolean[][] | null} rows of dark cells without the quiet zone; null when it does not fit
 */
export function qr(text) {
  if (![...text].every((c) => ALPHABET.includes(c))) return null;
  const needed = Math.ceil((13 + 5.5 * text.length) / 8);
  const version = SIZES.findIndex(([room]) => needed <= room) + 1;
  const size = SIZES[version - 1];
  if (!size) return null;
  const [room, correct, blocks] = size;
  const bytes = interleaved(dataBytes(text, room), correct, blocks);
  const grids = MASKS.map((_, mask) => drawn(version, bytes, mask)).map((grid) => ({ grid, cost: penalty(grid) }));
  return grids.reduce((best, one) => (one.cost < best.cost ? one : best)).grid;
}

// Fingerprints in words, as the protocol makes them: what one person reads from a new device or a
// host's terminal, and another compares before signing.

/** @import {BreakGlassKey, Device, Host} from "./types.ts" */
import { digest, toBytes, utf8 } from "./codec.js";

/** One word for each value of a byte; the protocol's `words.rs` has the same, in the same order. */
const LIST =
  [
    "acorn album amber apple apron arrow atlas autumn badge bagel baker balcony banjo barrel basil basket",
    "beaver bench berry bicycle bishop blanket bottle bracelet bridge broom bucket buffalo butter cabin cactus camel",
    "candle canoe canyon carpet castle cattle ceiling cello cherry chimney cider cinema circus cliff clover cobalt",
    "coffee comet compass copper coral corner cotton cradle crayon cricket crown crystal curtain daisy denim desert",
    "diamond dinner doctor dolphin donkey dragon drawer drum eagle eclipse elbow elephant emerald engine fabric falcon",
    "farmer feather fiddle finger flag flute forest fossil fountain fox frost furnace galaxy garden garlic gazelle",
    "geyser giant ginger giraffe glacier glove goblet gorilla grape gravel guitar hammer harbour harvest hazel helmet",
    "heron hockey honey hotel husky icicle igloo island ivory jacket jaguar jasmine jelly jigsaw jockey judge",
    "jungle kayak kettle kitten koala ladder lagoon lantern laurel lemon leopard lettuce library lilac linen lizard",
    "lobster locket lotus magnet mango maple marble meadow melon mermaid mirror monkey mosaic muffin museum napkin",
    "nectar needle nickel noodle nutmeg oasis ocean octopus olive onion opera orange orchid otter oyster paddle",
    "palace panda parrot pebble pelican pencil pepper piano picnic pigeon pillow pirate planet pocket pony potato",
    "pumpkin puzzle quartz rabbit radish raven ribbon river rocket rooster ruby saddle salmon sandal scarf seagull",
    "shadow shelter silver skate sofa spider sponge statue stork sugar sunset swan table tailor teapot temple",
    "thunder ticket tiger timber toast tomato topaz tractor trumpet tulip tunnel turtle umbrella valley vanilla velvet",
    "village violin volcano waffle walnut warrior weasel whale willow window winter wizard wolf yacht yellow zebra",
  ].join(" ").split(" ");
const COUNT = 8;

/** @param {Uint8Array} hash @returns {string[]} */
const words = (hash) => [...hash.subarray(0, COUNT)].map((byte) => LIST[byte] ?? "");

/** The digest that a possession statement names. @param {Device} device its fields in the protocol's order */
export const deviceDigest = (device) => digest("device-record", utf8(JSON.stringify(device)));

const NONE = new Uint8Array();
/** Of its keys alone, which nobody but the device chose. @param {Device} device */
export const deviceWords = async ({ credential_key, device_key }) =>
  words(await digest("device-keys", toBytes(credential_key), device_key === null ? NONE : toBytes(device_key)));

/** @param {Host} host */
export const hostWords = async (host) => words(await digest("host-keys", toBytes(host.host_key), toBytes(host.agent_key)));

/** @param {BreakGlassKey} one */
export const breakGlassWords = async ({ key }) => words(await digest("break-glass-key", toBytes(key)));

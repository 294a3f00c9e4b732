// Tokens of a streamed answer: their texts, and how sure the model was of each.

const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const LOSSY = new TextDecoder("utf-8", { ignoreBOM: true });
const MOST_PENDING = 8; // more tokens than any character takes, so their bytes are not UTF-8

/** Collects tokens. Tokens that end inside a character are joined with those that complete it. */
export class TokenList {
  constructor() {
    /** Complete parts: {text, probability (of the least likely token), alternatives}. */
    this.parts = [];
    this.pending = [];
    this.logprobs = [];
  }

  /** Adds an entry of `logprobs.content`. */
  add(entry) {
    this.logprobs.push(entry.logprob);
    this.pending.push(entry);
    if (this.pending.length >= MOST_PENDING || isComplete(this.pending)) this.flush();
  }

  /** Completes the last part, also inside a character. */
  flush() {
    if (!this.pending.length) return;
    this.parts.push({
      text: this.pending.some(({ bytes }) => bytes === null)
        ? this.pending.map(({ token }) => token).join("")
        : LOSSY.decode(allBytes(this.pending)),
      probability: Math.exp(Math.min(...this.pending.map(({ logprob }) => logprob))),
      alternatives: this.pending.at(-1).top_logprobs.map(({ token, logprob }) => ({ token, probability: Math.exp(logprob) })),
    });
    this.pending = [];
  }

  /** The geometric mean of the probabilities; null without tokens. */
  meanProbability() {
    if (!this.logprobs.length) return null;
    return Math.exp(this.logprobs.reduce((sum, logprob) => sum + logprob, 0) / this.logprobs.length);
  }
}

function allBytes(entries) {
  return new Uint8Array(entries.flatMap(({ bytes }) => bytes));
}

/** Whether entries end with a whole character. */
function isComplete(entries) {
  if (entries.some(({ bytes }) => bytes === null)) return true;
  try {
    STRICT.decode(allBytes(entries));
    return true;
  } catch {
    return false;
  }
}

/** The class of a probability, from p0 (unlikely) to p4 (nearly sure). */
export function confidenceClass(probability) {
  return `p${[0.3, 0.5, 0.75, 0.95].filter((limit) => probability >= limit).length}`;
}

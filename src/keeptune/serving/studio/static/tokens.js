// Tokens of a streamed answer: their texts, and how sure the model was of each.

/** Collects tokens. Tokens that end inside a character are joined with those that complete it. */
export class TokenList {
  constructor() {
    /** Complete parts: {text, probability (of the least likely token), alternatives}. */
    this.parts = [];
    this.logprobs = [];
    this.pending = [];
    this.decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  }

  /** Adds an entry of `logprobs.content`. */
  add(entry) {
    this.logprobs.push(entry.logprob);
    this.pending.push(entry);
    // The decoder holds back the bytes of an incomplete character.
    this.complete(entry.bytes === null ? entry.token : this.decoder.decode(new Uint8Array(entry.bytes), { stream: true }));
    this.last = entry;
  }

  /** Completes the last part, also inside a character. */
  flush() {
    this.complete(this.decoder.decode());
  }

  complete(text) {
    if (!text) return;
    const entries = this.pending.length ? this.pending : [this.last];
    this.parts.push({
      text,
      probability: Math.exp(Math.min(...entries.map(({ logprob }) => logprob))),
      alternatives: entries.at(-1).top_logprobs.map(({ token, logprob }) => ({ token, probability: Math.exp(logprob) })),
    });
    this.pending = [];
  }

  /** The geometric mean of the probabilities; null without tokens. */
  meanProbability() {
    if (!this.logprobs.length) return null;
    return Math.exp(this.logprobs.reduce((sum, logprob) => sum + logprob, 0) / this.logprobs.length);
  }
}

/** The class of a probability, from p0 (unlikely) to p4 (nearly sure). */
export function confidenceClass(probability) {
  return `p${[0.3, 0.5, 0.75, 0.95].filter((limit) => probability >= limit).length}`;
}

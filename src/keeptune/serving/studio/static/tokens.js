// Tokens of a streamed answer: their texts, and how sure the model was of each.

const DECODER = new TextDecoder("utf-8", { fatal: true });

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
    const text = joined(this.pending);
    if (text === null) return;
    this.parts.push({
      text,
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

/** The text of entries; null if they end inside a character. */
function joined(entries) {
  if (entries.some(({ bytes }) => bytes === null)) return entries.map(({ token }) => token).join("");
  try {
    return DECODER.decode(new Uint8Array(entries.flatMap(({ bytes }) => bytes)));
  } catch {
    return null;
  }
}

/** The class of a probability, from p0 (unlikely) to p4 (nearly sure). */
export function confidenceClass(probability) {
  return `p${[0.3, 0.5, 0.75, 0.95].filter((limit) => probability >= limit).length}`;
}

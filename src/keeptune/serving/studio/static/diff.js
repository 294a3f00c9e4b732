// Which parts of two sequences differ.

const MOST_CELLS = 1_000_000;

/** Two lists of booleans: which parts of each sequence are not in their longest common subsequence. */
export function differences(first, second) {
  let start = 0;
  while (start < first.length && start < second.length && first[start] === second[start]) start += 1;
  let [firstEnd, secondEnd] = [first.length, second.length];
  while (firstEnd > start && secondEnd > start && first[firstEnd - 1] === second[secondEnd - 1]) {
    firstEnd -= 1;
    secondEnd -= 1;
  }
  const marks = [first, second].map((parts) => parts.map(() => false));
  marks[0].fill(true, start, firstEnd);
  marks[1].fill(true, start, secondEnd);
  if ((firstEnd - start) * (secondEnd - start) <= MOST_CELLS) {
    for (const [i, j] of commonParts(first.slice(start, firstEnd), second.slice(start, secondEnd))) {
      marks[0][start + i] = false;
      marks[1][start + j] = false;
    }
  }
  return marks;
}

/** The places [i, j] of a longest common subsequence, by dynamic programming. */
function commonParts(first, second) {
  const width = second.length + 1;
  const lengths = new Uint32Array((first.length + 1) * width);
  for (let i = first.length - 1; i >= 0; i -= 1) {
    for (let j = second.length - 1; j >= 0; j -= 1) {
      const skipped = Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
      lengths[i * width + j] = first[i] === second[j] ? lengths[(i + 1) * width + j + 1] + 1 : skipped;
    }
  }
  const places = [];
  for (let i = 0, j = 0; i < first.length && j < second.length; ) {
    if (first[i] === second[j]) places.push([i++, j++]);
    else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return places;
}

/** The words, single Chinese characters and spaces of a text. */
export function words(text) {
  return text.match(/\s+|[\u3400-\u9fff]|[^\s\u3400-\u9fff]+/g) ?? [];
}

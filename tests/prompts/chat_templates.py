"""Chat templates in the manner of the common model families, each with a tiny tokenizer that has its special tokens."""

from dataclasses import dataclass, field

import tiny
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

_TOOLS = (
    "{% if tools %}<|im_start|>system\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}# Tools\n"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n"
    "{% elif messages[0].role == 'system' %}<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n{% endif %}"
)
_CALLS = (
    "{% for call in message.tool_calls %}{% set call = call.function %}"
    "<tool_call>\n{{ {'name': call.name, 'arguments': call.arguments} | tojson }}\n</tool_call>{% endfor %}"
)
_CHATML_TURN = (
    "{% if message.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ message.content }}\n</tool_response>"
    "<|im_end|>\n"
    "{% elif message.role != 'system' %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% if message.tool_calls %}" + _CALLS + "{% endif %}<|im_end|>\n{% endif %}"
)
_CHATML_START = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

CHATML = _TOOLS + "{% for message in messages %}" + _CHATML_TURN + "{% endfor %}" + _CHATML_START

MARKED = (
    _TOOLS + "{% for message in messages %}{% if message.role == 'assistant' %}<|im_start|>assistant\n{% generation %}"
    "{{ message.content }}{% if message.tool_calls %}"
    + _CALLS
    + "{% endif %}<|im_end|>{% endgeneration %}\n{% else %}"
    + _CHATML_TURN
    + "{% endif %}{% endfor %}"
    + _CHATML_START
)

LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + "
    "' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)

QWEN3 = (
    _TOOLS + "{% set ns = namespace(last=0) %}{% for message in messages %}{% if message.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "{% set content = message.content.split('</think>')[-1].lstrip('\n') %}"
    "{% set reasoning = message.reasoning_content if message.reasoning_content is defined else '' %}"
    "<|im_start|>assistant\n"
    "{% if loop.index0 > ns.last and (loop.last or reasoning) %}"
    "{{ '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' }}{% endif %}{{ content }}"
    "{% if message.tool_calls %}" + _CALLS + "{% endif %}<|im_end|>\n{% else %}" + _CHATML_TURN + "{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A template with its special tokens; `ends` are those of the generation config."""

    template: str
    special: tuple[str, ...]
    bos: str
    eos: str
    ends: tuple[str, ...]
    before: tuple[str, ...] = ()
    """Tokens that the tokenizer itself puts before a text."""
    arguments: dict[str, object] = field(default_factory=dict)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        words = tiny.tokenizer(before=(tiny.BEGIN,) if self.before else ())
        words.add_special_tokens(
            {"additional_special_tokens": [AddedToken(text, special=True, normalized=False) for text in self.special]}
        )
        if self.bos:
            words.bos_token = self.bos
        words.eos_token = self.eos
        words.chat_template = self.template
        return words

    def end_ids(self, words: PreTrainedTokenizerFast) -> list[int]:
        return [int(words.convert_tokens_to_ids(text)) for text in self.ends]


_IM = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

FAMILIES = {
    "chatml": Family(CHATML, _IM, "", "<|im_end|>", ("<|im_end|>", "<|endoftext|>")),
    "marked": Family(MARKED, _IM, "", "<|im_end|>", ("<|im_end|>",)),
    "llama3": Family(
        LLAMA3,
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        "<|begin_of_text|>",
        "<|end_of_text|>",
        ("<|end_of_text|>", "<|eot_id|>"),
    ),
    "bos-twice": Family(LLAMA3.replace("<|eot_id|>", tiny.END), (), "", tiny.END, (tiny.END,), before=(tiny.BEGIN,)),
    "gemma": Family(
        GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>", ("<eos>", "<end_of_turn>")
    ),
    "mistral": Family(MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]"), "<s>", "</s>", ("</s>",)),
    "qwen3": Family(QWEN3, _IM, "", "<|im_end|>", ("<|im_end|>", "<|endoftext|>")),
    "qwen3-no-thinking": Family(QWEN3, _IM, "", "<|im_end|>", ("<|im_end|>",), arguments={"enable_thinking": False}),
}

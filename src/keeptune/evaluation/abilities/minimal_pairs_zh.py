"""Chinese templates of the grammar ability. minimal_pairs.py describes their notation.

Bad sentences violate a rule that every native speaker applies. Two kinds of contrast are excluded. Informal writing
blurs some rules (的 for 地 or 得, a demonstrative without measure word, 台 for 辆). Some sentences have a second,
grammatical reading (小王跟小李更高 can mean that both are taller than others).
"""

from __future__ import annotations

NOUN_PHRASES = {
    "classifier": ("{who}{past_day}{measured.verb}一{measured.measure|wrong}{measured.noun}。",),
    "classifier-presence": (
        "{who}{counted.phrase}{number}[{counted.measure}|]{counted.noun}。",
        "{who}{stayed.phrase}{number}[|个]{stayed.unit}。",
        "{who}{counted_ge.phrase}{number}[个|]{counted_ge.noun}。",
        "{who}{stayed.phrase}{number}[|个]{stayed.unit}。",
    ),
    "demonstrative-order": (
        "[{demonstrative}{number}|{number}{demonstrative}]{shown.measure}{shown.noun}{shown_state}。",
    ),
    "number-two": (
        "{who}{past_day}{counted.phrase}[两|二]{counted.measure}{counted.noun}。",
        "{who}{past_day}{counted.phrase}第[二|两]{counted.measure}{counted.noun}。",
    ),
}

WORD_ORDER = {
    "ba-order": ("{who}{past_day}把[{result.object}{result.phrase}|{result.phrase}{result.object}]。",),
    "bei-order": ("{harm.object}[被{who}|{who}被]{harm.phrase}。",),
    "time-position": (
        "{who}[{future_day}{trip.verb}|{trip.verb}{future_day}]{trip.place}。",
        "{who}在{spell.place}[{spell.verb}了{spell.duration}|{spell.duration}{spell.verb}了]。",
        "{who}[{past_day}{trip.verb}|{trip.verb}{past_day}]了{trip.place}。",
        "{who}在{spell.place}[{spell.verb}过{spell.duration}|{spell.duration}{spell.verb}过]。",
    ),
    "adverb-position": (
        "[{group}都|都{group}]{shared}。",
        "[{who}也|也{who}]{shared}。",
    ),
    "question-word-position": ("{who}{past_day}[{done}什么|什么{done}]？",),
    "potential-complement": ("{who}[{unable.verb}不|不{unable.verb}]{unable.outcome}{unable.object}。",),
}

PARTICLES = {
    "comparison": (
        "{name}比{name2}[更|一样]{compared}。",
        "{name}像{name2}[一样|更]{compared}。",
        "{building}[离|比]{landmark}很{distance}。",
        "{building}[比|离]{building2}更{place_degree}。",
    ),
    "de-complement": (
        "{who}{complement.verb}[得|地]{complement.degree}。",
        "{who}{manner.adverb}[地|得]{manner.phrase}。",
    ),
    "reduplication": (
        "{who}把{double_adjective.subject}得[{double_adjective.first}{double_adjective.first}"
        "{double_adjective.second}{double_adjective.second}|{double_adjective.single}{double_adjective.single}]。",
        "{who}{double_aim}[{double_verb.single}{double_verb.single}|{double_verb.first}{double_verb.first}"
        "{double_verb.second}{double_verb.second}]{double_verb.object}。",
    ),
    "question-particle": (
        "{name}{why}{puzzle}[呢|吗]？",
        "难道{name}{doubt}[吗|呢]？",
    ),
    "degree-adverb": (
        "{who}觉得{uncomfortable.subject}[有点|一点]{uncomfortable.adjective}。",
        "{family}让{name}{request.verb}{request.adjective}[一点|有点]。",
    ),
    "conjunction-pair": (
        "{although}{premise.fact}，[{but}|{cause.so}]{premise.contrast}。",
        "{cause.because}{premise.fact}，[{cause.so}|{but}]{premise.result}。",
        "[{although}|{cause.because}]{premise.fact}，{but}{premise.contrast}。",
        "[{cause.because}|{although}]{premise.fact}，{cause.so}{premise.result}。",
    ),
}

ASPECT = {
    "locative-aspect": (
        "{located.place}{located.verb}[着|在]{few}{located.measure}{located.noun}。",
        "{demonstrative}{quantity}{located.measure}{located.noun}{located.verb}[在|着]{located.place}。",
    ),
    "aspect-le-zhe": (
        "{who}{lasting}[了|着]{duration}。",
        "{who}{posture.verb}[着|了]{posture.phrase}。",
    ),
    "negation-choice": (
        "{who}[没|不]{travelled}。",
        "{name}[不|没]{stative}。",
    ),
    "aspect-guo-le": (
        "{who}没{experience.verb}[过|了]{experience.object}。",
        "{name}快{imminent}[了|过]。",
    ),
}

TEMPLATES = NOUN_PHRASES | WORD_ORDER | PARTICLES | ASPECT

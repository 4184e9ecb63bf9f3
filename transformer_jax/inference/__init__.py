"""Trained models on inputs of any number and length: translators, generators, scores and attention."""

from typing import TYPE_CHECKING

from transformer_jax.lazy_names import lazy_names

if TYPE_CHECKING:
    from transformer_jax.inference.attention_maps import Alignment as Alignment
    from transformer_jax.inference.attention_maps import AttentionFile as AttentionFile
    from transformer_jax.inference.attention_maps import AttentionReader as AttentionReader
    from transformer_jax.inference.batch_search import BatchSearcher as BatchSearcher
    from transformer_jax.inference.batch_search import Hypothesis as Hypothesis
    from transformer_jax.inference.captioner import Caption as Caption
    from transformer_jax.inference.captioner import CaptionAttention as CaptionAttention
    from transformer_jax.inference.captioner import Captioner as Captioner
    from transformer_jax.inference.mask_filler import Candidate as Candidate
    from transformer_jax.inference.mask_filler import EmbeddedWords as EmbeddedWords
    from transformer_jax.inference.mask_filler import Filled as Filled
    from transformer_jax.inference.mask_filler import MaskFiller as MaskFiller
    from transformer_jax.inference.mask_filler import PseudoScore as PseudoScore
    from transformer_jax.inference.masked_scores import MaskedScorer as MaskedScorer
    from transformer_jax.inference.pair_scores import PairScorer as PairScorer
    from transformer_jax.inference.requested_search import BeamSearch as BeamSearch
    from transformer_jax.inference.requested_search import GreedySearch as GreedySearch
    from transformer_jax.inference.requested_search import Sampling as Sampling
    from transformer_jax.inference.requested_search import search_of as search_of
    from transformer_jax.inference.row_program import RowProgram as RowProgram
    from transformer_jax.inference.scored_lines import ScoredLines as ScoredLines
    from transformer_jax.inference.sentence_tagger import SentenceTagger as SentenceTagger
    from transformer_jax.inference.sentence_tagger import Tagged as Tagged
    from transformer_jax.inference.sentence_tagger import TaggedPiece as TaggedPiece
    from transformer_jax.inference.series_forecaster import Forecast as Forecast
    from transformer_jax.inference.series_forecaster import SeriesForecaster as SeriesForecaster
    from transformer_jax.inference.source_rows import FeatureRows as FeatureRows
    from transformer_jax.inference.source_rows import ImageRows as ImageRows
    from transformer_jax.inference.source_rows import SourceRows as SourceRows
    from transformer_jax.inference.source_rows import TokenRows as TokenRows
    from transformer_jax.inference.speech_searcher import SpeechSearcher as SpeechSearcher
    from transformer_jax.inference.text_classifier import Classified as Classified
    from transformer_jax.inference.text_classifier import TextClassifier as TextClassifier
    from transformer_jax.inference.text_generator import Generated as Generated
    from transformer_jax.inference.text_generator import TextGenerator as TextGenerator
    from transformer_jax.inference.text_generator import TextScore as TextScore
    from transformer_jax.inference.token_generator import GeneratedTokens as GeneratedTokens
    from transformer_jax.inference.token_generator import TokenChunk as TokenChunk
    from transformer_jax.inference.token_generator import TokenGenerator as TokenGenerator
    from transformer_jax.inference.token_scores import TokenScorer as TokenScorer
    from transformer_jax.inference.token_scores import TokenScores as TokenScores
    from transformer_jax.inference.transcriber import Transcriber as Transcriber
    from transformer_jax.inference.transcriber import Transcript as Transcript
    from transformer_jax.inference.translated import PairScore as PairScore
    from transformer_jax.inference.translated import Translated as Translated
    from transformer_jax.inference.translator import Translator as Translator
    from transformer_jax.inference.word_embedder import Embedded as Embedded
    from transformer_jax.inference.word_embedder import Neighbour as Neighbour
    from transformer_jax.inference.word_embedder import WordEmbedder as WordEmbedder

_MODULES = {
    "Alignment": "attention_maps",
    "AttentionFile": "attention_maps",
    "AttentionReader": "attention_maps",
    "BatchSearcher": "batch_search",
    "BeamSearch": "requested_search",
    "Candidate": "mask_filler",
    "Caption": "captioner",
    "CaptionAttention": "captioner",
    "Captioner": "captioner",
    "Classified": "text_classifier",
    "Embedded": "word_embedder",
    "EmbeddedWords": "mask_filler",
    "FeatureRows": "source_rows",
    "Filled": "mask_filler",
    "Forecast": "series_forecaster",
    "Generated": "text_generator",
    "GeneratedTokens": "token_generator",
    "GreedySearch": "requested_search",
    "Hypothesis": "batch_search",
    "ImageRows": "source_rows",
    "MaskFiller": "mask_filler",
    "MaskedScorer": "masked_scores",
    "Neighbour": "word_embedder",
    "PairScore": "translated",
    "PairScorer": "pair_scores",
    "PseudoScore": "mask_filler",
    "RowProgram": "row_program",
    "Sampling": "requested_search",
    "ScoredLines": "scored_lines",
    "SentenceTagger": "sentence_tagger",
    "SeriesForecaster": "series_forecaster",
    "SourceRows": "source_rows",
    "SpeechSearcher": "speech_searcher",
    "Tagged": "sentence_tagger",
    "TaggedPiece": "sentence_tagger",
    "TextClassifier": "text_classifier",
    "TextGenerator": "text_generator",
    "TextScore": "text_generator",
    "TokenChunk": "token_generator",
    "TokenGenerator": "token_generator",
    "TokenRows": "source_rows",
    "TokenScorer": "token_scores",
    "TokenScores": "token_scores",
    "Transcriber": "transcriber",
    "Transcript": "transcriber",
    "Translated": "translated",
    "Translator": "translator",
    "WordEmbedder": "word_embedder",
    "search_of": "requested_search",
}
"""Where each public name is defined."""

__all__ = [
    "Alignment",
    "AttentionFile",
    "AttentionReader",
    "BatchSearcher",
    "BeamSearch",
    "Candidate",
    "Caption",
    "CaptionAttention",
    "Captioner",
    "Classified",
    "Embedded",
    "EmbeddedWords",
    "FeatureRows",
    "Filled",
    "Forecast",
    "Generated",
    "GeneratedTokens",
    "GreedySearch",
    "Hypothesis",
    "ImageRows",
    "MaskFiller",
    "MaskedScorer",
    "Neighbour",
    "PairScore",
    "PairScorer",
    "PseudoScore",
    "RowProgram",
    "Sampling",
    "ScoredLines",
    "SentenceTagger",
    "SeriesForecaster",
    "SourceRows",
    "SpeechSearcher",
    "Tagged",
    "TaggedPiece",
    "TextClassifier",
    "TextGenerator",
    "TextScore",
    "TokenChunk",
    "TokenGenerator",
    "TokenRows",
    "TokenScorer",
    "TokenScores",
    "Transcriber",
    "Transcript",
    "Translated",
    "Translator",
    "WordEmbedder",
    "search_of",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

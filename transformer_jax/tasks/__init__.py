"""Tasks: one file each, joining data, model, objective, evaluation and prediction."""

from typing import TYPE_CHECKING

from transformer_jax.lazy_names import lazy_names

if TYPE_CHECKING:
    from transformer_jax.tasks.caption_evaluation import CaptionEvaluation as CaptionEvaluation
    from transformer_jax.tasks.caption_evaluation import CaptionEvaluator as CaptionEvaluator
    from transformer_jax.tasks.caption_evaluation import evaluate_captions as evaluate_captions
    from transformer_jax.tasks.captioning import Captioning as Captioning
    from transformer_jax.tasks.class_evaluation import ClassEvaluation as ClassEvaluation
    from transformer_jax.tasks.class_evaluation import evaluate_classes as evaluate_classes
    from transformer_jax.tasks.classification import Classification as Classification
    from transformer_jax.tasks.classification import PreparedClassification as PreparedClassification
    from transformer_jax.tasks.forecast_evaluation import ForecastEvaluation as ForecastEvaluation
    from transformer_jax.tasks.forecast_evaluation import evaluate_forecasts as evaluate_forecasts
    from transformer_jax.tasks.forecasting import Forecasting as Forecasting
    from transformer_jax.tasks.forecasting import PreparedForecasting as PreparedForecasting
    from transformer_jax.tasks.language_modelling import LanguageModelling as LanguageModelling
    from transformer_jax.tasks.language_modelling import PreparedLanguage as PreparedLanguage
    from transformer_jax.tasks.masked_evaluation import MaskedEvaluation as MaskedEvaluation
    from transformer_jax.tasks.masked_evaluation import MaskedEvaluator as MaskedEvaluator
    from transformer_jax.tasks.masked_evaluation import evaluate_masked as evaluate_masked
    from transformer_jax.tasks.masked_language_modelling import (
        MaskedLanguageModelling as MaskedLanguageModelling,
    )
    from transformer_jax.tasks.masked_language_modelling import (
        PreparedMaskedLanguage as PreparedMaskedLanguage,
    )
    from transformer_jax.tasks.pair_evaluation import PairEvaluation as PairEvaluation
    from transformer_jax.tasks.pair_evaluation import evaluate_pairs as evaluate_pairs
    from transformer_jax.tasks.pairs import PairEvaluator as PairEvaluator
    from transformer_jax.tasks.pairs import PairTask as PairTask
    from transformer_jax.tasks.pronunciation import Pronunciation as Pronunciation
    from transformer_jax.tasks.rewriting import Rewriting as Rewriting
    from transformer_jax.tasks.tag_evaluation import TagEvaluation as TagEvaluation
    from transformer_jax.tasks.tag_evaluation import evaluate_tags as evaluate_tags
    from transformer_jax.tasks.tagging import Tagging as Tagging
    from transformer_jax.tasks.task import Artifact as Artifact
    from transformer_jax.tasks.task import Evaluator as Evaluator
    from transformer_jax.tasks.task import Prepared as Prepared
    from transformer_jax.tasks.task import Task as Task
    from transformer_jax.tasks.task import evaluation_options as evaluation_options
    from transformer_jax.tasks.task_data import available_splits as available_splits
    from transformer_jax.tasks.task_data import data_name as data_name
    from transformer_jax.tasks.task_data import describe_data as describe_data
    from transformer_jax.tasks.text_evaluation import LanguageEvaluator as LanguageEvaluator
    from transformer_jax.tasks.text_evaluation import TextEvaluation as TextEvaluation
    from transformer_jax.tasks.text_evaluation import evaluate_text as evaluate_text
    from transformer_jax.tasks.transcription import Transcription as Transcription
    from transformer_jax.tasks.transcription_evaluation import SpeechEvaluation as SpeechEvaluation
    from transformer_jax.tasks.transcription_evaluation import SpeechEvaluator as SpeechEvaluator
    from transformer_jax.tasks.transcription_evaluation import evaluate_speech as evaluate_speech
    from transformer_jax.tasks.translation import Translation as Translation
    from transformer_jax.tasks.union import TaskConfig as TaskConfig
    from transformer_jax.tasks.union import register_task as register_task
    from transformer_jax.tasks.union import task_kinds as task_kinds
    from transformer_jax.tasks.vector_evaluation import VectorEvaluation as VectorEvaluation
    from transformer_jax.tasks.vector_evaluation import WindowEvaluator as WindowEvaluator
    from transformer_jax.tasks.vector_evaluation import evaluate_vectors as evaluate_vectors
    from transformer_jax.tasks.word_embedding import PreparedVectors as PreparedVectors
    from transformer_jax.tasks.word_embedding import WordEmbedding as WordEmbedding

_MODULES = {
    "Artifact": "task",
    "CaptionEvaluation": "caption_evaluation",
    "CaptionEvaluator": "caption_evaluation",
    "Captioning": "captioning",
    "ClassEvaluation": "class_evaluation",
    "Classification": "classification",
    "Evaluator": "task",
    "ForecastEvaluation": "forecast_evaluation",
    "Forecasting": "forecasting",
    "LanguageEvaluator": "text_evaluation",
    "LanguageModelling": "language_modelling",
    "MaskedEvaluation": "masked_evaluation",
    "MaskedEvaluator": "masked_evaluation",
    "MaskedLanguageModelling": "masked_language_modelling",
    "PairEvaluation": "pair_evaluation",
    "PairEvaluator": "pairs",
    "PairTask": "pairs",
    "Prepared": "task",
    "PreparedClassification": "classification",
    "PreparedForecasting": "forecasting",
    "PreparedLanguage": "language_modelling",
    "PreparedMaskedLanguage": "masked_language_modelling",
    "PreparedVectors": "word_embedding",
    "Pronunciation": "pronunciation",
    "Rewriting": "rewriting",
    "SpeechEvaluation": "transcription_evaluation",
    "SpeechEvaluator": "transcription_evaluation",
    "TagEvaluation": "tag_evaluation",
    "Tagging": "tagging",
    "Task": "task",
    "TaskConfig": "union",
    "TextEvaluation": "text_evaluation",
    "Transcription": "transcription",
    "Translation": "translation",
    "VectorEvaluation": "vector_evaluation",
    "WindowEvaluator": "vector_evaluation",
    "WordEmbedding": "word_embedding",
    "available_splits": "task_data",
    "data_name": "task_data",
    "describe_data": "task_data",
    "evaluate_captions": "caption_evaluation",
    "evaluate_classes": "class_evaluation",
    "evaluate_forecasts": "forecast_evaluation",
    "evaluate_masked": "masked_evaluation",
    "evaluate_pairs": "pair_evaluation",
    "evaluate_speech": "transcription_evaluation",
    "evaluate_tags": "tag_evaluation",
    "evaluate_text": "text_evaluation",
    "evaluate_vectors": "vector_evaluation",
    "evaluation_options": "task",
    "register_task": "union",
    "task_kinds": "union",
}
"""Where each public name is defined."""

__all__ = [
    "Artifact",
    "CaptionEvaluation",
    "CaptionEvaluator",
    "Captioning",
    "ClassEvaluation",
    "Classification",
    "Evaluator",
    "ForecastEvaluation",
    "Forecasting",
    "LanguageEvaluator",
    "LanguageModelling",
    "MaskedEvaluation",
    "MaskedEvaluator",
    "MaskedLanguageModelling",
    "PairEvaluation",
    "PairEvaluator",
    "PairTask",
    "Prepared",
    "PreparedClassification",
    "PreparedForecasting",
    "PreparedLanguage",
    "PreparedMaskedLanguage",
    "PreparedVectors",
    "Pronunciation",
    "Rewriting",
    "SpeechEvaluation",
    "SpeechEvaluator",
    "TagEvaluation",
    "Tagging",
    "Task",
    "TaskConfig",
    "TextEvaluation",
    "Transcription",
    "Translation",
    "VectorEvaluation",
    "WindowEvaluator",
    "WordEmbedding",
    "available_splits",
    "data_name",
    "describe_data",
    "evaluate_captions",
    "evaluate_classes",
    "evaluate_forecasts",
    "evaluate_masked",
    "evaluate_pairs",
    "evaluate_speech",
    "evaluate_tags",
    "evaluate_text",
    "evaluate_vectors",
    "evaluation_options",
    "register_task",
    "task_kinds",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

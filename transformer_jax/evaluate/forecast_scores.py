"""Scores of forecasts, and the naive forecasts that they are compared with."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

CRITICAL_VALUE = 1.645
"""Quantile of the normal distribution in the test of seasonality of the M4 competition: 90 % on both sides."""


def smape(truth: Values, forecast: Values) -> Values:
    r"""Symmetric absolute percentage error of each value, from 0 to 200; their mean is sMAPE.

    .. math:: \mathrm{sMAPE} = \frac{200}{h} \sum_{t=1}^{h} \frac{|y_t - \hat y_t|}{|y_t| + |\hat y_t|}

    An error is 0 where both are 0, NaN where the forecast is.

    Args:
      truth: Values of any shape.
      forecast: As many.

    Example:
      >>> smape(np.array([1.0, 0.0, 2.0]), np.array([3.0, 0.0, 2.0])).tolist()
      [100.0, 0.0, 0.0]

    Source: Makridakis et al. 2020, https://doi.org/10.1016/j.ijforecast.2019.04.014, section 2.
    """
    total = np.abs(truth) + np.abs(forecast)
    return 200.0 * np.divide(np.abs(truth - forecast), total, out=np.zeros_like(total), where=total != 0)


def naive_error(values: Values, season_len: int) -> Values:
    r"""Mean absolute error of the seasonal naive forecast within known values: the scale of MASE.

    .. math:: \frac{1}{n - m} \sum_{t > m} |y_t - y_{t - m}|

    Args:
      values: ``[time, channels]``; NaN does not count.
      season_len: :math:`m`; the last value is repeated where there are not more values than that.

    Returns:
      ``[channels]``; 0 of constant values.

    Example:
      >>> naive_error(np.array([[1.0], [2.0], [4.0], [8.0]]), 2).tolist()
      [4.5]

    Source: Hyndman and Koehler 2006, https://doi.org/10.1016/j.ijforecast.2006.03.001.
    """
    lag = season_len if len(values) > season_len else 1
    errors = np.abs(values[lag:] - values[:-lag])
    known = ~np.isnan(errors)
    return np.where(known, errors, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def scaled_errors(truth: Values, forecast: Values, scale: Values) -> Values:
    r"""Absolute error of each value in units of a naive forecast's; their mean is MASE.

    .. math:: \mathrm{MASE} = \frac{1}{h} \sum_{t=1}^{h} \frac{|y_t - \hat y_t|}{s}

    with the scale :math:`s` of `naive_error`. Below 1 a forecast is better than the seasonal naive one was within the
    known values.

    Args:
      truth: Values ``[..., horizon, channels]``.
      forecast: As many.
      scale: ``[..., channels]``; NaN or 0 where a channel is constant.

    Returns:
      Errors of the shape of the values; NaN where there is no scale.

    Example:
      >>> scaled_errors(np.array([[4.0], [6.0]]), np.array([[3.0], [3.0]]), np.array([2.0])).tolist()
      [[0.5], [1.5]]

    Source: Hyndman and Koehler 2006, https://doi.org/10.1016/j.ijforecast.2006.03.001.
    """
    scale = np.broadcast_to(scale[..., None, :], truth.shape)
    has_scale = np.isfinite(scale) & (scale > 0)
    return np.where(has_scale, np.abs(forecast - truth) / np.where(has_scale, scale, 1.0), np.nan)


def overall_weighted_average(smape: float, mase: float, naive2_smape: float, naive2_mase: float) -> float:
    r"""OWA, the score of the M4 competition: mean of sMAPE and MASE, each divided by that of Naive 2.

    .. math:: \mathrm{OWA} = \frac{1}{2} \left( \frac{\mathrm{sMAPE}}{\mathrm{sMAPE}_{\mathrm{Naive\,2}}}
       + \frac{\mathrm{MASE}}{\mathrm{MASE}_{\mathrm{Naive\,2}}} \right)

    Where Naive 2 has no error, the ratio is 1 for a forecast without one and infinite for another.

    Args:
      smape: sMAPE of the forecasts.
      mase: Their MASE.
      naive2_smape: sMAPE of `SeasonalFactors.forecast`.
      naive2_mase: Its MASE.

    Example:
      >>> overall_weighted_average(9.0, 1.0, 18.0, 4.0)
      0.375

    Source: Makridakis et al. 2020, https://doi.org/10.1016/j.ijforecast.2019.04.014, section 2.
    """
    ratios = [
        own / naive if naive > 0 else (math.inf if own else 1.0)
        for own, naive in ((smape, naive2_smape), (mase, naive2_mase))
    ]
    return float(np.mean(ratios))


def seasonal_naive(context: Values, horizon_len: int, season_len: int) -> Values:
    """The values of the last season, again and again; with a season of 1 the last value.

    Args:
      context: ``[..., time, channels]``.
      horizon_len: Steps to forecast.
      season_len: Steps of a season; the whole context where it is shorter.

    Returns:
      ``[..., horizon, channels]``.

    Example:
      >>> seasonal_naive(np.arange(6.0)[:, None], 4, 3)[:, 0].tolist()
      [3.0, 4.0, 5.0, 3.0]
    """
    length = context.shape[-2]
    season = min(season_len, length)
    return context[..., length - season + np.arange(horizon_len) % season, :]


@dataclasses.dataclass(frozen=True)
class SeasonalFactors:
    """Multiplicative seasonal factors of one channel, as the M4 competition's Naive 2 uses them.

    Attributes:
      factors: ``[season]``, of mean 1; all 1 where values are not seasonal.

    Example:
      >>> factors = SeasonalFactors.of(np.tile([1.0, 3.0], 20), 2)
      >>> factors.forecast(np.array([3.0]), np.array([40]), 3).tolist()
      [[1.0, 3.0, 1.0]]

    Source: Makridakis et al. 2020, https://doi.org/10.1016/j.ijforecast.2019.04.014, benchmark Naive 2.
    """

    factors: Values

    @classmethod
    def of(cls, values: Values, season_len: int) -> "SeasonalFactors":
        """The factors of known values; values at or below 0, or fewer than three seasons, have none.

        The classical decomposition: values over their centred moving average, averaged by their place in the season,
        where the autocorrelation at one season is significant.

        Args:
          values: ``[time]``.
          season_len: Steps of a season.

        Example:
          >>> values = np.tile([1.0, 3.0], 20)
          >>> SeasonalFactors.of(values, 2).factors.tolist()
          [0.5, 1.5]
        """
        plain = cls(np.ones(season_len))
        if season_len < 2 or len(values) < 3 * season_len or not (values > 0).all():
            return plain
        if not is_seasonal(values, season_len):
            return plain
        if season_len % 2:
            kernel = np.full(season_len, 1.0 / season_len)
        else:
            kernel = np.concatenate([[0.5], np.ones(season_len - 1), [0.5]]) / season_len
        trend = np.convolve(values, kernel, mode="valid")
        before = len(kernel) // 2
        ratio = values[before : before + len(trend)] / trend
        places = (before + np.arange(len(trend))) % season_len
        factors = np.bincount(places, ratio, season_len) / np.bincount(places, minlength=season_len)
        return cls(factors / factors.mean())

    def at(self, rows: npt.NDArray[np.int64]) -> Values:
        """Factors of rows of the series, of the shape of the rows."""
        return self.factors[rows % len(self.factors)]

    def forecast(self, last: Values, origins: npt.NDArray[np.int64], horizon_len: int) -> Values:
        r"""Naive 2: the last value without its season, with those of the rows ahead.

        .. math:: \hat y_{t+k} = \frac{y_t}{f_{t \bmod m}} f_{(t+k) \bmod m}

        Args:
          last: ``[windows]``, the value before each origin.
          origins: ``[windows]``, row of the first target.
          horizon_len: Steps to forecast.

        Returns:
          ``[windows, horizon]``.
        """
        level = last / self.at(origins - 1)
        return level[:, None] * self.at(origins[:, None] + np.arange(horizon_len))


def is_seasonal(values: Values, season_len: int) -> bool:
    r"""Whether the autocorrelation at one season differs from 0, by the test of the M4 competition.

    .. math:: |r_m| > 1.645 \sqrt{\frac{1 + 2 \sum_{k < m} r_k^2}{n}}

    Example:
      >>> is_seasonal(np.tile([1.0, 3.0, 2.0], 10), 3), is_seasonal(np.tile([1.0, 2.0, 2.0, 1.0], 8), 3)
      (True, False)

    Source: Makridakis et al. 2020, https://doi.org/10.1016/j.ijforecast.2019.04.014, benchmark Naive 2.
    """
    centred = values - values.mean()
    total = float(centred @ centred)
    if total == 0.0:
        return False
    lags = np.array([float(centred[lag:] @ centred[:-lag]) / total for lag in range(1, season_len + 1)])
    limit = CRITICAL_VALUE * np.sqrt((1.0 + 2.0 * float((lags[:-1] ** 2).sum())) / len(values))
    return bool(abs(lags[-1]) > limit)

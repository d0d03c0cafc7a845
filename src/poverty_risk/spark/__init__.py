"""The same catalogue and the same model on Apache Spark, where one machine is not enough.

The catalogue's queries run as Spark's SQL; formulas, risks and reasons are computed by this package
itself in Spark's Python workers. Needs ``pip install 'poverty-risk[spark]'`` and Java 17 or later.
"""

from poverty_risk.spark.prediction import predict_counties
from poverty_risk.spark.session import start_session

__all__ = ["predict_counties", "start_session"]
